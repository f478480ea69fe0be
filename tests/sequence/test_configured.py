"""Every field of a model, a recipe or a measurement changes what is trained or measured, or its change is refused."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.changes import OF_A_LAYER, OF_THE_LOOP, kinds, lost, members, note_solves, watched
from tests.jobs import done
from tests.profiles import PROFILES
from tests.sequence.recipes import LAYER, MEASURE, MODEL, PROFILE, RECIPE, TEXT, UNROLLED

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.config.delta import Rule, Variant
from deq_core.experiment.config.layer import ImplicitConfig, Solver, StopConfig
from deq_core.experiment.config.optim import Every
from deq_core.experiment.config.recipe import JacobianPenalty, Pretraining
from deq_core.experiment.study.stage import Stage
from deq_core.experiment.tracking.run import ignore
from deq_sequence.config import VARIANTS
from deq_sequence.data.texts import prepare
from deq_sequence.params import Model, Train, Training
from deq_sequence.studies.delta import DELTA, Delta
from deq_sequence.studies.perplexity import EVALUATE
from deq_sequence.studies.section import Sequence
from deq_sequence.train import train

SHORT = StopConfig(max_steps=4, tol=1e-3)
MODEL_ = replace(
    MODEL,
    memory=4,
    layer=replace(
        LAYER,
        solver=deq.Anderson(window=2),
        stop=SHORT,
        eval_stop=replace(SHORT, max_steps=5),
        adjoint=ImplicitConfig(solver=deq.Anderson(window=2), stop=SHORT),
    ),
)
RECIPE_ = replace(
    RECIPE,
    length=4,
    steps=5,
    validation_tokens=10,
    pretraining=Pretraining(steps=1, depth=(1, 3)),
    jacobian=JacobianPenalty(weight=1.0, chance=0.75, growth=0.5, growth_every=2, pretraining_weight=0.5),
    jitter=(0, 1),
    optim=replace(RECIPE.optim, clip=0.5),
    ema=0.5,
    every=Every(checkpoint=5, evaluate=5),
)
STUDY = Delta(
    text="characters",
    length=8,
    memory=6,
    batch_size=2,
    tokens=40,
    variants={"it": Variant(solver=deq.Anderson(window=2), stop=SHORT, rule=Rule(thresholds=(0.1,), refresh_every=3))},
    steps=(2, 4),
    starts=("stream",),
    skip=("expand",),
)
PROTOCOL = replace(MEASURE, stride=6, stop=SHORT, solvers={"it": deq.Anderson(window=2)}, sweep_tokens=40)
Outcome = Callable[[Model, Train], object]


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    size, equilibrium = VARIANTS["mini"]
    tiny = replace(size, embedding=16, width=16, heads=2, head_width=8, inner=16)
    monkeypatch.setitem(VARIANTS, "mini", (tiny, equilibrium))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    prepare(root / "characters", replace(TEXT, limit=60))
    return root


@pytest.fixture
def trained(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outcome]:
    """What a training leaves: its history and weights, and the choices of its solves."""
    solves = note_solves(monkeypatch)

    def outcome(model: Model, recipe: Train) -> object:
        solves.clear()
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        out = tmp_path / "out"
        train(model, recipe, seed=2, data=data, out=out, scratch=tmp_path / "scratch", log=ignore)
        return (out / "history.csv").read_text(), (out / "model.safetensors").read_bytes(), sorted(solves)

    watched.folders = [data, tmp_path / "scratch"]
    yield outcome
    watched.folders = []


@pytest.mark.parametrize("model", [MODEL_, replace(MODEL_, layer=None, steps=2)], ids=["equilibrium", "unrolled"])
def test_every_field_of_a_model_changes_its_training(trained: Outcome, model: Model) -> None:
    recipe = replace(RECIPE, length=4, steps=2, validation_tokens=10, pretraining=None, every=Every(checkpoint=2))
    assert lost(model, lambda one: trained(one, recipe), handed_on=OF_A_LAYER) == []


def test_every_field_of_a_recipe_changes_the_training(trained: Outcome) -> None:
    assert lost(RECIPE_, lambda one: trained(MODEL_, one), but=OF_THE_LOOP) == []


def test_every_field_of_a_measurement_changes_what_is_measured(trained: Outcome, data: Path, tmp_path: Path) -> None:
    trained(MODEL_, replace(RECIPE_, steps=2, ema=None))

    def tables(stage: Stage[Any, Any]) -> Callable[[Any], object]:
        def outcome(config: Any) -> object:
            metrics, job = done(stage, config, data=data, model=tmp_path / "out")
            return metrics, dict(job.tables)

        return outcome

    assert lost(PROTOCOL, tables(EVALUATE), handed_on=["stop", "solvers.it"]) == []
    assert lost(STUDY, tables(DELTA), handed_on=["variants.it.solver", "variants.it.stop"]) == []


def test_what_is_said_of_the_solves_of_an_unrolled_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train.jitter: only for solves, and an unrolled model has none"):
        Training(model=UNROLLED, train=replace(RECIPE, jitter=(0, 1), jittered="all"))
    with pytest.raises(ValueError, match=r"evaluate.unrolled.stop: only for solves, and an unrolled model has none"):
        replace(PROFILE, evaluate={**PROFILE.evaluate, "unrolled": PROTOCOL})
    with pytest.raises(ValueError, match=r"delta.unrolled: only for solves, and an unrolled model has none"):
        replace(PROFILE, delta={"unrolled": STUDY})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_kind_of_section_of_a_profile_is_among_these(profile: str) -> None:
    section: Sequence = config.check(Sequence, PROFILES[profile], "sequence")
    found = kinds(section.model, section.train, section.evaluate, section.delta)
    assert found <= kinds(MODEL_, RECIPE_, PROTOCOL, STUDY) | set(members(Solver))
