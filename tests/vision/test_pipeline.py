"""From data to report through the studies and commands of deq-vision, at the size of the smoke profile."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from tests.profiles import SMOKE
from tests.vision.pictures import shorten

from deq_core.experiment import config
from deq_core.experiment.study.report import Page, Report, Results, folder_of
from deq_core.experiment.study.stage import Job, Section, Stage, measured
from deq_core.experiment.tables import numbers, read_rows
from deq_core.experiment.tracking.run import ignore
from deq_vision.cli import COMMANDS, main
from deq_vision.data.mini.write import MiniSets, write_mini
from deq_vision.reports import scores, streaming
from deq_vision.reports.headlines import headline
from deq_vision.reports.scores import MDEQ, overview
from deq_vision.studies.paths import PathStudy
from deq_vision.studies.scores import BASELINES, EVALUATE, Peers, Trained
from deq_vision.studies.section import Vision
from deq_vision.studies.streaming import STREAM
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
    shorten(root / "street")
    return root


def section(profile: Vision, folder: Path) -> Section:
    """The profile in a file."""
    file = folder / "params.json"
    file.write_text(json.dumps({"vision": config.plain(profile)}))
    return Section(file, "vision")


def case(stage: Stage[Any, Any], case: Any, place: Section, data: Path, model: Path | None, out: Path) -> None:
    """Runs and writes one case of a stage."""
    settings = stage.settings(place, case)
    measured(stage, Job(case=case, settings=settings, data=data, model=model, out=out, scratch=out, log=ignore))


@pytest.fixture(scope="module")
def results(profile: Vision, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pipeline: every experiment trained from two seeds, measured, and compared with its baselines."""
    root = tmp_path_factory.mktemp("results")
    place = section(profile, root)
    for name in profile.trained:
        recipe = profile.experiments[name].recipe
        experiment = replace(profile.experiments[name], recipe=replace(recipe, every=replace(recipe.every, log=1)))
        for seed in SEEDS:
            one = Trained(name, seed)
            model, scratch = root / "train" / folder_of(one), root / "scratch" / folder_of(one)
            train(experiment, seed=seed, data=data, out=model, scratch=scratch, log=ignore)
            case(EVALUATE, one, place, data, model, root / "evaluate" / folder_of(one))
            if name in profile.streamed:
                case(STREAM, one, place, data, model, root / "stream" / folder_of(one))
        case(BASELINES, Peers(name), place, data, None, root / "baselines" / name)
    return root


def told(report: Report, profile: Vision, results: Path, folder: Path) -> Page:
    """A report of the results."""
    return report.page(section(profile, folder), Results(results, "vision"))


def test_the_report_gives_mean_and_deviation_over_seeds(profile: Vision, results: Path, tmp_path: Path) -> None:
    page = told(scores.REPORT, profile, results, tmp_path)
    found = page.metrics
    for name, metric in (("digits", "top1"), ("street", "miou"), ("detect", "ap50")):
        runs = [json.loads((results / "evaluate" / f"{name}-{seed}" / "metrics.json").read_text()) for seed in SEEDS]
        each = [run[metric] for run in runs]
        assert found[name][MDEQ][metric] == pytest.approx(mean(each))
        assert found[name][MDEQ][f"{metric}_std"] == pytest.approx(stdev(each))
    text = "\n".join(page.parts)
    assert f"{mean(run['loss'] for run in runs):.3f} ± {stdev(run['loss'] for run in runs):.3f}" in text
    assert re.search(r"^## digits: \d+ test images$", text, re.MULTILINE)
    measured = {name: replace(one, split="val") for name, one in profile.evaluate.items()}
    text = "\n".join(told(scores.REPORT, replace(profile, evaluate=measured), results, tmp_path).parts)
    assert re.search(r"^## digits: \d+ validation images$", text, re.MULTILINE)
    assert set(page.figures) == {"evaluations", "learning_curves", "scores"}


def test_baselines_stand_before_the_networks_the_worst_first(profile: Vision, results: Path, tmp_path: Path) -> None:
    for name, found in told(scores.REPORT, profile, results, tmp_path).metrics.items():
        *peers, last = found
        assert last == MDEQ
        assert set(peers) == set(profile.baselines[name])
        reached = [found[peer][headline(found[peer])] for peer in peers]
        assert reached == sorted(reached)


def test_every_run_over_videos_is_in_the_report_with_its_seeds(profile: Vision, results: Path, tmp_path: Path) -> None:
    page = told(streaming.REPORT, profile, results, tmp_path)
    assert list(page.metrics) == list(profile.streamed)
    for name, found in page.metrics.items():
        assert list(found) == ["converged", "warm 1", "cold 1", "warm 4", "cold 4", "adaptive"]
        rows = [read_rows(results / "stream" / f"{name}-{seed}" / "summary.csv") for seed in SEEDS]
        residuals = [
            numbers([row for row in of_seed if (row["mode"], row["steps"]) == ("warm", 4)], "residual")
            for of_seed in rows
        ]
        assert found["warm 4"]["residual"] == pytest.approx(mean(value for (value,) in residuals))
        assert {values["seeds"] for values in found.values()} == {len(SEEDS)}
    assert set(page.figures) == {"budgets", "frames"}
    lines = overview(told(scores.REPORT, profile, results, tmp_path).metrics, page.metrics).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| detect", "| digits", "| street"]
    assert len({line.count("|") for line in lines}) == 1


def test_a_second_run_writes_the_same_tables(profile: Vision, data: Path, results: Path, tmp_path: Path) -> None:
    """What a machine was busy with is in none of them."""
    model, out = results / "train" / "street-0", tmp_path / "again"
    case(STREAM, Trained("street", 0), section(profile, tmp_path), data, model, out)
    for path in (results / "stream" / "street-0").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_reports_are_made_of_one_seed_and_without_baselines_too(profile: Vision, results: Path, tmp_path: Path) -> None:
    alone = {"trained": ("street",), "fresh": ("street",), "continued": (), "streamed": ("street",)}
    one = replace(profile, **alone, baselines={}, paths=PathStudy(), seeds=(1,))
    found = told(scores.REPORT, one, results, tmp_path).metrics
    assert "miou_std" not in found["street"][MDEQ]
    assert list(found["street"]) == [MDEQ]
    assert told(streaming.REPORT, one, results, tmp_path).figures


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
        main(["study", "baselines", "experiment=digits", "--data", "data", "--out", "out"])
    assert not (tmp_path / "out").exists()
