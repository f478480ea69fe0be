"""Path independence of flow networks: the study's problem is the network's own, and its stage leads to a page."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.flow.small import equilibrium, equilibrium_model, store, write_sintel
from tests.jobs import run
from tests.profiles import ROOT

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.files import write_json
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.report import Results
from deq_core.experiment.study.stage import Section
from deq_flow.config import Scales
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.params import Coarser, Stabilise
from deq_flow.reports.paths import REPORT
from deq_flow.studies.paths import PATHS, FlowPaths, PathStudy, drawn, problems

CONFIG = FlowPaths(
    sets=("sintel_clean",),
    evaluations=2,
    solvers={"plain": deq.FixedPointIteration()},
    tolerances=(0.5, 0.1),
    samples=3,
    batch_size=2,
    arnoldi=2,
)
STUDY = PathStudy(methods=("deq",), measure={"deq": CONFIG})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sintel(tmp_path_factory.mktemp("data"))


@torch.no_grad()
def test_a_pair_is_followed_as_the_network_solves_it(data: Path) -> None:
    model = equilibrium()
    samples = labelled_sets(data, ["sintel_clean"])["sintel_clean"]
    problem = next(problems(model, samples, replace(CONFIG, samples=2), of="sintel_clean"))
    state = problem.zero
    for _ in range(3):
        state = problem.f(*state)
    images = (torch.stack([getattr(samples[index], name) for index in (0, 2)]).float() for name in ("image1", "image2"))
    pair = model.encode(*images)
    expected = model.start(pair)
    for _ in range(3):
        expected = model.map(pair)(*expected)
    torch.testing.assert_close(problem.answer(*state), pair.finish(expected[1], expected[0]))
    assert problem.names == [samples[index].name for index in (0, 2)]


@torch.no_grad()
def test_residuals_of_flow_are_those_of_motion_where_the_state_is_a_position(data: Path) -> None:
    samples = labelled_sets(data, ["sintel_clean"])["sintel_clean"]
    states = []
    for unknown in ("flow", "position"):
        model = equilibrium()
        model.equilibrium = replace(model.equilibrium, unknown=unknown)
        problem = next(problems(model, samples, CONFIG, of="sintel_clean"))
        states.append(problem.f(*problem.f(*problem.zero)))
    torch.testing.assert_close(states[0], states[1], atol=1e-4, rtol=1e-4)


def test_a_random_state_is_within_a_hidden_states_bounds_and_its_flow_is_of_some_cells() -> None:
    like = (torch.zeros(50, 8, 12, 16), torch.zeros(50, 2, 12, 16))
    hidden, flow = drawn(like, torch.Generator().manual_seed(0))
    assert -1 <= float(hidden.min()) < -0.9
    assert 0.9 < float(hidden.max()) <= 1
    assert 1 < float(flow.square().mean().sqrt()) < 2
    assert float((flow[..., 1:] - flow[..., :-1]).abs().mean()) < 0.5


def test_the_stage_leads_to_a_page(data: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        network = store(tmp_path / "train" / f"deq-{seed}", equilibrium_model(3), seed=seed)
        found = run(PATHS, Measured("deq", seed), CONFIG, tmp_path / "paths" / f"deq-{seed}", data=data, model=network)
        assert found["sintel_clean"]["samples"] == 3
        assert found["sintel_clean"]["radius"] > 0
    write_json(tmp_path / "params.yaml", config.plain({"flow": {"seeds": [0, 1], "paths": STUDY}}))  # JSON is YAML
    told = REPORT.page(Section(tmp_path / "params.yaml", "flow"), Results(tmp_path, "flow"))
    assert "| deq | sintel_clean (3) | plain | " in told.parts[3]
    assert {"plain.change", "plain.random_std", "plain.every part.0.1"} <= told.metrics["deq"]["sintel_clean"].keys()


def test_a_network_without_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="methods, shipped: not in `measure`: default"):
        replace(STUDY, shipped=("default",))


def test_the_recipe_of_the_page_is_one(tmp_path: Path) -> None:
    (recipe,) = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs/convergence.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "params.yaml").write_text(recipe)
    found = {
        kind: config.load(kind, tmp_path / "params.yaml", place)
        for kind, place in (
            (Stabilise, "train.deq.stabilise"),
            (Coarser, "train.deq.coarser"),
            (Scales, "model.deq.scales"),
        )
    }
    assert found[Stabilise] == Stabilise(), "what the page shows is what is there by default"
    assert found[Coarser] == Coarser()
    assert found[Scales] == Scales(coarsest=64)
