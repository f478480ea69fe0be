"""Path independence of MDEQ: a sample's numbers are its own, and the stages lead from data to a page."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.jobs import run
from tests.vision.test_stability import STUDY
from tests.vision.test_training import EXPERIMENTS, PROFILE

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.files import write_json
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.report import Report, Results, folder_of
from deq_core.experiment.study.stage import Section, Stage
from deq_vision import MDEQ, save
from deq_vision.models.build import build
from deq_vision.reports.paths import REPORT, STABILITY_REPORT
from deq_vision.studies.paths import PATHS, PathStudy, VisionPaths, problems
from deq_vision.studies.stability import EVALUATE, Trained
from deq_vision.tasks import batches_in_order, loss

CONFIG = VisionPaths(
    evaluations=2, solvers={"plain": deq.FixedPointIteration()}, tolerances=(0.5,), samples=3, batch_size=2, arnoldi=2
)
VISION = replace(PROFILE, paths=PathStudy(methods=("digits",), shipped=("digits",), measure={"digits": CONFIG}))
STABILITY = replace(STUDY, methods=("implicit",), steps=(2,), paths=CONFIG, measure=replace(STUDY.measure, sweep=12))


@torch.no_grad()
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_errors_are_each_images_own_and_answers_what_the_network_says(name: str, data: Path) -> None:
    torch.manual_seed(0)
    experiment = EXPERIMENTS[name]
    model = MDEQ(experiment.model.architecture, experiment.model.equilibrium()).eval()
    problem = next(problems(model, experiment.task, replace(CONFIG, split="train"), data))
    state = problem.zero
    for _ in range(3):
        state = problem.f(*state)
    outputs = problem.answer(*state)
    assert len(outputs) == len(problem.names) == 2
    assert len(set(problem.names)) == 2
    alone = batches_in_order(experiment.task, data, "train", 1, multiple=model.size.multiple)
    for batch in alone:
        if batch.names[0] in problem.names:
            expected = model(batch.images, steps=3).logits
            place = list(problem.names).index(batch.names[0])
            torch.testing.assert_close(outputs[place : place + 1], expected, atol=1e-4, rtol=1e-4)
            own = loss(experiment.task, expected, batch)
            torch.testing.assert_close(problem.error(outputs)[place], own, atol=1e-4, rtol=1e-4)


CASES: dict[str, tuple[Stage[Any, Any], Report, Any, list[Any]]] = {
    "vision": (PATHS, REPORT, VISION, [Measured("digits", 0), Measured("digits")]),
    "stability": (EVALUATE, STABILITY_REPORT, STABILITY, [Trained("implicit", 2, 0)]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_stage_leads_to_a_page(name: str, data: Path, tmp_path: Path) -> None:
    stage, report, profile, cases = CASES[name]
    write_json(tmp_path / "params.yaml", config.plain({name: profile}))  # JSON is YAML
    place = Section(tmp_path / "params.yaml", name)
    for seed, case in enumerate(cases):
        torch.manual_seed(seed)
        folder = tmp_path / "train" / folder_of(case)
        save(folder / "model.safetensors", build("mini-digits"))
        out = tmp_path / stage.name.partition(".")[2] / folder_of(case)
        found = run(stage, case, stage.settings(place, case), out, data=data, model=folder)
        assert found.get("paths", found)["test"]["samples"] == 3
    page = report.page(place, Results(tmp_path, name))
    rows = [line.split(" | ")[0] for line in page.parts[3].splitlines()[2:]]
    assert rows == (["| digits", "| digits, shipped"] if name == "vision" else ["| implicit, N = 2"])
