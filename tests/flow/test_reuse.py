"""The study of reuse: miniature videos, its stage, and what figure and report make of it."""

from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from tests.flow.small import equilibrium_model, store
from tests.jobs import run

from deq_core.experiment import config
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.files import write_json
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.report import Page, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import numbers, read_rows
from deq_flow.data.mini.final_pass import FinalPassConfig
from deq_flow.data.mini.scenes import SceneConfig
from deq_flow.data.mini.studio import Studio
from deq_flow.data.mini.videos import VideosConfig, write_videos
from deq_flow.evaluation.sets import sequences_of
from deq_flow.inference_params import Inference
from deq_flow.params import UnrolledModel
from deq_flow.reports.reuse import page
from deq_flow.studies.reuse import REUSE, Reuse

VIDEOS = VideosConfig(videos=2, frames=3, period=12.0)
SEEDS = (0, 1)
CONFIG = Reuse(
    methods=("deq", "raft"),
    shipped=(),
    budgets={
        "two": Inference(stop=StopConfig(max_steps=2), steps=2),
        "tolerance": Inference(stop=StopConfig(max_steps=6, tol=0.2), steps=6),
    },
)
MODELS = {"deq": equilibrium_model(6), "raft": UnrolledModel(name="raft-mini", steps=6)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    studio = Studio(0, (40, 56), SceneConfig(), FinalPassConfig(), 0.3, lambda: None)
    write_videos(root / "Video", VIDEOS, studio)
    return root


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage of two methods and two seeds, with networks that are not trained."""
    root = tmp_path_factory.mktemp("results")
    for method, model in MODELS.items():
        for seed in SEEDS:
            name = f"{method}-{seed}"
            network = store(root / "train" / name, model, seed=seed)
            run(REUSE, Measured(method, seed), CONFIG, root / "reuse" / name, data=data, model=network)
    return root


def told(results: Path) -> Page:
    """The page of these methods and seeds."""
    params = results / "params.yaml"
    write_json(params, config.plain({"flow": {"seeds": SEEDS, "reuse": CONFIG, "plot": Plot()}}))  # JSON is YAML
    return page(Section(params, "flow"), Results(results, "flow"))


def test_videos_swing_and_their_flow_leads_to_the_next_frame(data: Path) -> None:
    pairs = sequences_of("video", data)
    assert pairs.sequences() == {"video_1": range(2), "video_2": range(2, 4)}
    for index in range(len(pairs)):
        sample = pairs[index]
        assert sample.occluded is not None
        assert 0 < float(sample.flow.norm(dim=0).mean()) < 20
        if index in (0, 2):
            assert torch.equal(sample.image2, pairs[index + 1].image1)
    whole = replace(VIDEOS, frames=30)
    times = [whole.time(frame) for frame in range(whole.frames)]
    assert max(np.abs(times)) == pytest.approx(whole.travel)
    assert times[12] == pytest.approx(times[0], abs=1e-9), "after a period it is where it was"


def test_every_budget_and_start_has_a_row_a_pair(results: Path) -> None:
    rows = read_rows(results / "reuse" / "deq-1" / "frames.csv")
    assert len(rows) == 2 * 3 * 4
    assert {row["iterations"] for row in rows if row["budget"] == "two"} == {2}
    assert max(numbers([row for row in rows if row["budget"] == "tolerance"], "iterations")) <= 6
    unrolled = read_rows(results / "reuse" / "raft-0" / "frames.csv")
    assert {(row["budget"], row["iterations"]) for row in unrolled} == {("two", 2), ("tolerance", 6)}


def test_the_report_gives_each_start_its_mean_and_deviation_over_seeds(results: Path) -> None:
    _, table = told(results).parts
    epe = []
    for seed in SEEDS:
        rows = read_rows(results / "reuse" / f"deq-{seed}" / "frames.csv")
        epe.append(mean(numbers([row for row in rows if row["budget"] == "two" and row["start"] == "reuse"], "epe")))
    line = next(line for line in table.splitlines() if line.startswith("| deq | two | reuse |"))
    assert line.startswith(f"| deq | two | reuse | {mean(epe):.2f} ± {stdev(epe):.2f} | 2.0 ± 0.0 | ")
    assert next(line for line in table.splitlines() if line.startswith("| raft | two | cold |")).endswith("| - |")
    assert len(table.splitlines()) == 2 + 2 * 2 * 3


def test_the_figure_has_a_bar_of_each_start(results: Path) -> None:
    panels = told(results).figures["starts"].axes
    assert len(panels) == 2
    assert [str(drawn.get_label()) for drawn in panels[0].containers] == sorted(CONFIG.starts)
