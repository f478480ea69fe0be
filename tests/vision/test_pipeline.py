"""From data to report through the functions and commands of deq-vision, at the size of the smoke profile."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import pytest
from tests.profiles import SMOKE

from deq_core.experiment import config
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.study.stages import all_there
from deq_core.experiment.tables import numbers, read_rows
from deq_core.experiment.tracking.run import ignore
from deq_vision.baselines.evaluate import evaluate_baselines
from deq_vision.cli import COMMANDS, main
from deq_vision.data.mini.write import MiniSets, write_mini
from deq_vision.evaluate import evaluate_model
from deq_vision.params import Classify, Vision
from deq_vision.plot import figures
from deq_vision.report import overview, report
from deq_vision.streaming.evaluate import evaluate_stream
from deq_vision.tables import MDEQ, Tables, headline, scores, streams
from deq_vision.train import train

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def profile() -> Vision:
    return replace(config.load(Vision, SMOKE, "vision"), seeds=SEEDS)


@pytest.fixture(scope="module")
def data(profile: Vision, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "vision"
    assert isinstance(profile.data, MiniSets)
    write_mini(root, profile.data)
    return root


@pytest.fixture(scope="module")
def results(profile: Vision, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pipeline: every experiment trained from two seeds, measured, and compared with its baselines."""
    root = tmp_path_factory.mktemp("results")
    for name in profile.trained:
        experiment, settings = profile.experiments[name], profile.evaluate[name]
        experiment = replace(
            experiment, recipe=replace(experiment.recipe, every=replace(experiment.recipe.every, log=1))
        )
        for seed in SEEDS:
            run, scratch = f"{name}-{seed}", root / "scratch" / f"{name}-{seed}"
            model = root / "train" / run
            train(experiment, seed=seed, data=data, out=model, scratch=scratch, log=ignore)
            evaluate_model(model, experiment.task, settings, data=data, out=root / "evaluate" / run, log=ignore)
            if not isinstance(experiment.task, Classify) and name in profile.streamed:
                streaming = profile.stream[name]
                evaluate_stream(model, experiment.task, streaming, data=data, out=root / "stream" / run, log=ignore)
        out = root / "baselines" / name
        evaluate_baselines(profile.baselines[name], experiment.task, settings, data=data, out=out, log=ignore)
    return root


@pytest.fixture(scope="module")
def tables(results: Path, profile: Vision) -> Tables:
    return Tables.below(
        results, trained=profile.trained, streamed=profile.streamed, baselines=profile.baselines, seeds=SEEDS
    )


def test_the_report_gives_mean_and_deviation_over_seeds(results: Path, tables: Tables, tmp_path: Path) -> None:
    found = report(tables, ["scores.svg"], out=tmp_path)
    for name, metric in (("digits", "top1"), ("street", "miou"), ("detect", "ap50")):
        runs = [json.loads((results / "evaluate" / f"{name}-{seed}" / "metrics.json").read_text()) for seed in SEEDS]
        each = [run[metric] for run in runs]
        assert found["scores"][name][MDEQ][metric] == pytest.approx(mean(each))
        assert found["scores"][name][MDEQ][f"{metric}_std"] == pytest.approx(stdev(each))
    text = (tmp_path / "report.md").read_text()
    assert f"{mean(run['loss'] for run in runs):.3f} ± {stdev(run['loss'] for run in runs):.3f}" in text
    assert "figures/scores.svg" in text
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(found))
    assert overview(found) == overview(json.loads((tmp_path / "metrics.json").read_text())), "README is made from it"


def test_baselines_stand_before_the_networks_the_worst_first(tables: Tables, profile: Vision) -> None:
    for name in profile.trained:
        found = scores(tables, name)
        *peers, last = found
        assert last == MDEQ
        assert set(peers) == set(profile.baselines[name])
        reached = [found[peer][headline(found[peer])] for peer in peers]
        assert reached == sorted(reached)


def test_every_run_over_videos_is_in_the_report_with_its_seeds(results: Path, tables: Tables, profile: Vision) -> None:
    for name in profile.streamed:
        found = streams(tables, name)
        assert list(found) == ["converged", "warm 1", "cold 1", "warm 4", "cold 4", "adaptive"]
        rows = [read_rows(results / "stream" / f"{name}-{seed}" / "summary.csv") for seed in SEEDS]
        residuals = [
            numbers([row for row in of_seed if (row["mode"], row["steps"]) == ("warm", 4)], "residual")
            for of_seed in rows
        ]
        assert found["warm 4"]["residual"] == pytest.approx(mean(value for (value,) in residuals))
        assert {values["seeds"] for values in found.values()} == {len(SEEDS)}


def test_a_second_run_writes_the_same_tables(results: Path, data: Path, profile: Vision, tmp_path: Path) -> None:
    """What a machine was busy with is in none of them."""
    task = profile.experiments["street"].task
    assert not isinstance(task, Classify)
    model = results / "train" / "street-0"
    evaluate_stream(model, task, profile.stream["street"], data=data, out=tmp_path / "again", log=ignore)
    for path in (results / "stream" / "street-0").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_figures_are_drawn_to_the_same_bytes_twice(tables: Tables, profile: Vision, tmp_path: Path) -> None:
    first = figures(tables, profile.plot, out=tmp_path / "a")
    second = figures(tables, profile.plot, out=tmp_path / "b")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_figures_and_report_are_made_of_one_seed_too(results: Path, profile: Vision, tmp_path: Path) -> None:
    one = Tables.below(results, trained=["street"], streamed=["street"], baselines=[], seeds=[1])
    assert len(figures(one, profile.plot, out=tmp_path / "figures")) == 5
    found = report(one, [], out=tmp_path)
    assert "miou_std" not in found["scores"]["street"][MDEQ]
    assert list(found["scores"]["street"]) == [MDEQ]


def test_results_that_are_missing_are_named(results: Path) -> None:
    tables = Tables.below(results, trained=["digits", "street"], streamed=[], baselines=["digits"], seeds=[0, 7])
    with pytest.raises(LayoutError, match=r"4 of 9 are missing, such as train/digits-7; `snakemake vision` makes them"):
        all_there(tables, results, "vision")


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (name for names in COMMANDS.values() for name in names):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        shown = capsys.readouterr().out
        assert "--out" in shown or "OUT" in shown or "NAME" in shown, command


def test_an_option_that_is_not_given_says_in_the_help_what_happens_then(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (name for names in COMMANDS.values() for name in names):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
        for option in re.split(r"(?= --[a-z])", shown):
            assert "(default: None)" not in option or "by default" in option.lower(), f"{command}{option}"


def test_a_damaged_file_stops_the_baselines_by_name(data: Path, tracking_database: Path, tmp_path: Path) -> None:
    shutil.copy(SMOKE, tmp_path / "params.yaml")
    shutil.copytree(data, tmp_path / "data")
    batch = tmp_path / "data" / "digits" / "cifar-10-batches-bin" / "data_batch_1.bin"
    batch.write_bytes(batch.read_bytes()[:-100])
    with pytest.raises(SystemExit, match=r"data_batch_1\.bin"):
        main(["baselines", "--experiment", "digits", "--data", "data", "--out", "out"])
    assert not (tmp_path / "out").exists()
