"""Every field of a model or a recipe changes what is trained, or its change is refused."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.changes import OF_A_LAYER, OF_THE_LOOP, kinds, lost, members, note_solves, watched
from tests.flow.small import mini
from tests.flow.test_objective import CHOICE
from tests.jobs import run
from tests.profiles import PROFILES

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.config.delta import Rule
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, Solver, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.data.registry import ReleasedSets
from deq_core.experiment.study.stage import Stage
from deq_core.experiment.tracking.run import ignore
from deq_flow.config import Scales
from deq_flow.data.augment import AugmentConfig
from deq_flow.data.batches import batches
from deq_flow.data.colour import ColourConfig
from deq_flow.data.mini.training import TrainingSetsConfig
from deq_flow.data.mini.write import write_mini
from deq_flow.data.mixes import MemberConfig, Mix, open_sets
from deq_flow.data.registry import SETS as PUBLISHED
from deq_flow.networks import build_network
from deq_flow.params import Coarser, EquilibriumModel, Model, Train, UnrolledModel
from deq_flow.studies.delta import images, sine
from deq_flow.studies.delta.field import Representation
from deq_flow.studies.delta.images import Images, Picture, Represented
from deq_flow.studies.delta.section import Delta
from deq_flow.studies.delta.sine import Fit, Sine
from deq_flow.studies.flow import Curriculum, CurriculumStage, Flow
from deq_flow.training.train import train

SETS = mini(
    height=40,
    width=48,
    train_pairs=4,
    frames=2,
    training=TrainingSetsConfig(things_scenes=1, sintel_scenes=1, frames=2, kitti_pairs=2, hd1k_sequences=1),
)
SHORT = StopConfig(max_steps=4, tol=1e-3)
MODEL = EquilibriumModel(
    name="deq-flow-mini",
    layer=LayerConfig(
        solver=deq.Anderson(window=2),
        stop=SHORT,
        eval_stop=replace(SHORT, max_steps=5),
        adjoint=ImplicitConfig(solver=deq.Anderson(window=2), stop=SHORT),
    ),
    correction=(2,),
)
UNROLLED = UnrolledModel(name="raft-mini", steps=2)
AUGMENT = AugmentConfig(
    crop=(24, 32),
    colour=ColourConfig(asymmetric_chance=0.5),
    eraser_size=(3, 9),
    eraser_chance=0.7,
    margin=1,
    flip_chance=(0.5, 0.5),
)
MEMBER = MemberConfig(data="chairs", augment=AUGMENT)
SPARSE = MemberConfig(data="kitti", folder="Training", augment=replace(AUGMENT, sparse=True), weight=2)
RECIPE = Train(
    mix=(MEMBER, SPARSE),
    steps=3,
    batch_size=2,
    optim=OptimConfig(lr=1e-3, clip=0.5),
    ema=0.5,
    every=Every(checkpoint=3, evaluate=3),
)
Outcome = Callable[[Model, Train], object]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "flow"
    write_mini(root, SETS)
    return root


@pytest.fixture
def trained(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_batches: int) -> Iterator[Outcome]:
    """What a training leaves: its history and weights, and the choices of its solves."""
    solves = note_solves(monkeypatch)

    def outcome(model: Model, recipe: Train) -> object:
        solves.clear()
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        out = tmp_path / "out"
        train(model, recipe, seed=0, data=data, out=out, scratch=tmp_path / "scratch", log=ignore)
        return (out / "history.csv").read_text(), (out / "model.safetensors").read_bytes(), sorted(solves)

    watched.folders = [data, tmp_path / "scratch"]
    yield outcome
    watched.folders = []


@pytest.mark.parametrize("model", [MODEL, UNROLLED], ids=["equilibrium", "unrolled"])
def test_every_field_of_a_model_changes_its_training(trained: Outcome, model: Model) -> None:
    """Or what the network says of itself."""
    recipe = replace(RECIPE, steps=1, ema=None)

    def outcome(model: Model) -> object:
        said = {name: one for name, one in vars(build_network(model)).items() if isinstance(one, int | str | None)}
        return trained(model, recipe), said

    assert lost(model, outcome, handed_on=OF_A_LAYER) == []


def test_chaining_without_a_correction_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="chaining: there is nothing to chain without a correction"):
        replace(MODEL, correction=(), chaining="indexing")


def test_every_field_of_a_recipe_changes_the_training(trained: Outcome) -> None:
    assert lost(RECIPE, lambda one: trained(UNROLLED, one), but=("mix", *OF_THE_LOOP)) == []


@pytest.mark.parametrize("member", [MEMBER, SPARSE], ids=["dense", "sparse"])
def test_every_field_of_a_mix_changes_the_batches(member: MemberConfig, data: Path) -> None:
    def drawn(member: MemberConfig) -> object:
        mix = Mix((MEMBER, member), open_sets((MEMBER, member), data))
        stream = batches(mix, batch_size=2, augment=mix.augmentation, seed=0)(0)
        found = [next(stream) for _ in range(8)]
        return [[part.tolist() for part in (one.image1, one.image2, one.flow, one.valid)] for one in found]

    assert lost(member, drawn) == []


LAYER = replace(MODEL.layer, adjoint=deq.Phantom(steps=2, damping=0.1))
RULES = {"seen": Rule(thresholds=(0.0, 0.1), refresh_every=3)}
SINE = Sine(
    steps=2,
    optim=OptimConfig(lr=0.1),
    layer=LAYER,
    evaluations=6,
    width=4,
    points=8,
    probes=6,
    rules=RULES,
    penalty=5.0,
)
FIELD = Representation(kind="siren", width=4, scale=3.0, layer=LAYER, threshold=0.05, reuse=True)
IMAGES = Images(
    picture=Picture(size=6), steps=2, optim=OptimConfig(lr=0.1), evaluations=5, rules=RULES, probes=8, tolerance=0.1
)


@pytest.fixture
def fitted(tmp_path: Path) -> Iterator[Callable[..., object]]:
    """What a fit of the studies of the delta rule leaves: its tables and weights."""

    def outcome(stage: Stage, case: object, settings: object) -> object:
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        run(stage, case, settings, tmp_path / "out", scratch=tmp_path / "scratch")
        return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "config.json"}

    watched.folders = [tmp_path / "scratch"]
    yield outcome
    watched.folders = []


def test_every_field_of_a_fitted_sine_changes_the_fit(fitted: Callable[..., object]) -> None:
    assert lost(SINE, lambda one: fitted(sine.SINE, Fit("a", 0), one), handed_on=[*OF_A_LAYER, "optim"]) == []


def test_every_field_of_a_fitted_image_changes_the_fit(fitted: Callable[..., object]) -> None:
    def outcome(one: Images) -> object:
        return fitted(images.IMAGES, Represented("a", 0), (one, FIELD))

    assert lost(IMAGES, outcome, handed_on=["optim"]) == []


def test_every_field_of_a_representation_changes_the_fit(fitted: Callable[..., object]) -> None:
    def outcome(one: Representation) -> object:
        return fitted(images.IMAGES, Represented("a", 0), (IMAGES, one))

    assert lost(FIELD, outcome, handed_on=OF_A_LAYER) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_kind_of_section_of_a_profile_is_among_these(profile: str) -> None:
    flow: Flow = config.check(Flow, PROFILES[profile], "flow")
    delta: Delta = config.check(Delta, PROFILES[profile], "delta")
    found = kinds(flow.model, flow.train, flow.curriculum, delta.sine, delta.images, delta.representations)
    changed = kinds(MODEL, UNROLLED, RECIPE, CHOICE, Coarser(), Scales(), SINE, IMAGES, FIELD)
    assert found <= changed | {CurriculumStage, Curriculum} | set(members(Solver))


def test_what_the_studies_of_the_paper_read_is_among_its_data() -> None:
    flow: Flow = config.check(Flow, PROFILES["paper"], "flow")
    delta: Delta = config.check(Delta, PROFILES["paper"], "delta")
    later = flow.curriculum.things, flow.curriculum.sintel, flow.curriculum.kitti
    recipes = [*flow.train.values(), *(recipe for stage in later for recipe in stage.train.values())]
    parts = [part for sweep in delta.sweep.values() for part in sweep.sets.items()]
    read = {
        *(member.data for recipe in recipes for member in recipe.mix),
        *(name for followed in flow.paths.measure.values() for name in followed.sets),
        *(name for watched in delta.convergence.values() for name in watched.sets),
        *(name for name, _ in parts),
        *(part.validation.set for _, part in parts if part.validation is not None),
        *flow.evaluate.sets,
        flow.reuse.set,
    }
    set_of = {name: own for own, found in PUBLISHED.items() for name in (*found.training, *found.labelled)}
    assert isinstance(flow.data, ReleasedSets)
    assert {set_of[name] for name in read} == set(flow.data.sets)
