"""The smoke profile through both engines, for real: one state, whoever ran last and however it ended."""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import yaml
from tests.workflows.checkout import copy, environment, run, set_parameters

from deq_core.experiment.written import RECORD

pytestmark = pytest.mark.slow

NOTHING = "Nothing to be done (all requested files are present and up to date)."
UP_TO_DATE = "Data and pipelines are up to date."
SNAKEMAKE = ("snakemake", "--cores", "2", "all")
DVC = ("dvc", "repro")
MODEL = "results/flow/train/deq-0/model.safetensors"
TRAIN = "flow_train@deq-0"
BASELINES = "sequence_baselines"
ENGINES = {
    "snakemake": ("snakemake", "--cores", "1", MODEL),
    "dvc": ("dvc", "repro", "--single-item", TRAIN),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which Snakemake has run everything."""
    folder = copy(tmp_path_factory.mktemp("finished"))
    set_parameters(folder, {}, name="smoke")
    run(folder, *SNAKEMAKE)
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished checkout, with its dates, for a test to change."""
    folder = tmp_path / "workspace"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "results" / "logs")
    return folder


def stages_run(folder: Path, said: str) -> set[str]:
    """The stages whose commands an engine ran: DVC says so, in the log of a rule where Snakemake called it.

    Without the one that DVC runs each time.
    """
    texts = [said, *(path.read_text() for path in (folder / "results").glob("logs/**/*.log"))]
    names = {name for text in texts for name in re.findall(r"^Running stage '(.+)':$", text, re.MULTILINE)}
    return names - {"check"}


def changed(folder: Path) -> set[str]:
    """The stages that DVC finds changed, without the one that it runs each time."""
    return json.loads(run(folder, "dvc", "status", "--json").stdout).keys() - {"check"}


def recorded(folder: Path) -> dict[str, dict]:
    """The stages in dvc.lock."""
    return yaml.safe_load((folder / "dvc.lock").read_text())["stages"]


def tracked(folder: Path, tag: str) -> dict[str, list[str]]:
    """Values of a tag of the runs in MLflow, by stage."""
    query = """
        select stage.value, tag.value from tags as stage left join tags as tag
        on tag.run_uuid = stage.run_uuid and tag.key = ? where stage.key = 'dvc.stage'
    """
    values = defaultdict(list)
    with sqlite3.connect(folder / "mlflow.db") as database:
        for stage, value in database.execute(query, (tag,)):
            values[stage].append(value)
    database.close()
    return values


def test_after_snakemake_nothing_is_left_for_either_engine(finished: Path) -> None:
    assert changed(finished) == set()
    assert NOTHING in run(finished, "snakemake", "--dry-run").stdout
    assert stages_run(finished, "") == set(recorded(finished))
    assert (finished / "results/flow/report/table/report.md").read_text().startswith("# Optical flow\n")
    assert (finished / "results/sequence/report/report.md").read_text().startswith("# Language models\n")
    assert (finished / "results/vision/report.md").read_text().startswith("# Vision\n")


def test_every_job_reads_the_parameters_that_dvc_tracks_for_it(finished: Path) -> None:
    sections = tracked(finished, "params.sections")
    stages = recorded(finished)
    kinds = {stage.partition("@")[0] for stage in sections}
    assert kinds >= {"flow_train", "flow_evaluate", "flow_baselines", "flow_table_report"}
    assert kinds >= {
        f"sequence_{kind}" for kind in ("baselines", "train", "evaluate", "report", "delta", "delta_report")
    }
    assert kinds >= {f"vision_{kind}" for kind in ("baselines", "train", "evaluate", "stream", "plot")}
    for stage, values in sections.items():
        read = [set(value.split(",")) - {""} for value in values]  # "" is a whole file: config.json, a dependency
        assert read == [set(stages[stage]["params"]["params.yaml"])], stage


def test_every_run_names_the_engine_and_the_digests_of_dvc_lock(finished: Path) -> None:
    assert tracked(finished, "engine")[TRAIN] == ["snakemake"]
    digests = {out["path"]: out["md5"] for out in recorded(finished)[TRAIN]["outs"]}
    assert tracked(finished, f"out.{MODEL}")[TRAIN] == [digests[MODEL]]


def test_a_report_is_made_without_a_network(finished: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    run(finished, "snakemake", "--report", str(report))
    assert "results/flow/report/table/epe.svg" in report.read_text()


@pytest.mark.parametrize("engine", [SNAKEMAKE, DVC], ids=lambda engine: engine[0])
def test_a_changed_number_reruns_what_depends_on_it_and_the_other_engine_agrees(
    engine: tuple[str, ...], workspace: Path
) -> None:
    set_parameters(workspace, {"flow.plot.dpi": 75})
    said = run(workspace, *engine).stdout
    assert stages_run(workspace, said) == {"flow_table_report", "flow_reuse_report"}
    assert changed(workspace) == set()
    assert NOTHING in run(workspace, "snakemake", "--dry-run").stdout


@pytest.mark.parametrize(("first", "second"), [("snakemake", "dvc"), ("dvc", "snakemake")])
def test_a_killed_training_resumes_under_either_engine_to_the_same_result(
    first: str, second: str, finished: Path, workspace: Path
) -> None:
    forget(workspace, TRAIN)
    (workspace / "mlflow.db").unlink()
    kill_when(workspace.glob, ".scratch/*/training.pt", ENGINES[first], workspace)
    assert not (workspace / MODEL).exists()
    said = run(workspace, *ENGINES[second]).stdout
    assert TRAIN in stages_run(workspace, said)
    assert recorded(workspace)[TRAIN]["outs"] == recorded(finished)[TRAIN]["outs"]
    assert len(tracked(workspace, "engine")[TRAIN]) == 1  # the run of the killed process went on
    assert list(workspace.glob(".scratch/flow_train-*")) == []


def forget(folder: Path, stage: str) -> None:
    """Removes a stage's outputs and all records of its results, so that they can only come from a run."""
    for out in recorded(folder)[stage]["outs"]:
        (folder / out["path"]).unlink()
    shutil.rmtree(folder / ".dvc/cache/runs")
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    del lock["stages"][stage]
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def kill_when(find: Callable[[str], Iterable[Path]], pattern: str, command: Sequence[str], folder: Path) -> None:
    """Starts a command and kills it, with all that it started, as soon as a file of `pattern` is there."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None and not any(find(pattern)):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    while is_alive(process.pid):
        time.sleep(0.01)


def is_alive(group: int) -> bool:
    """Whether the system still knows a process of this group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_damaged_data_are_restored_from_the_cache(workspace: Path) -> None:
    damaged = truncated(workspace)
    assert NOTHING not in run(workspace, "snakemake", "--cores", "1", "flow_download").stdout
    assert stages_run(workspace, "") == set()
    assert damaged.stat().st_size > 20
    assert changed(workspace) == set()


@pytest.mark.parametrize("engine", [SNAKEMAKE[:3], DVC], ids=lambda engine: engine[0])
def test_results_that_are_damaged_in_the_cache_are_made_again_by_either_engine(
    engine: tuple[str, ...], workspace: Path
) -> None:
    lost = [out for out in recorded(workspace)[BASELINES]["outs"] if out["path"].endswith("metrics.json")]
    for out in lost:
        entry = workspace / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
        text = entry.read_text()
        entry.chmod(0o644)
        entry.write_text(re.sub(r"\d(?=[^\d]*$)", lambda digit: str(9 - int(digit[0])), text, count=1))
        entry.chmod(0o444)
        (workspace / out["path"]).unlink()
    target = lost[0]["path"] if engine[0] == "snakemake" else BASELINES
    said = run(workspace, *engine, target).stdout
    assert stages_run(workspace, said) == {BASELINES}
    assert "damaged, its content is not that of its name; removed" in said
    for out in lost:
        assert hashlib.md5((workspace / out["path"]).read_bytes()).hexdigest() == out["md5"]


def test_a_corrupt_file_is_named_and_finished_jobs_stay_finished(workspace: Path) -> None:
    alone = {f"flow.curriculum.{stage}.methods": [] for stage in ("kitti", "sintel", "things")}
    unused = {"flow.reuse.methods": [], "flow.reuse.shipped": []}
    set_parameters(workspace, {"flow.seeds": [0], "flow.methods": ["deq"], **alone, **unused})
    damaged = truncated(workspace)
    run(workspace, "dvc", "commit", "--force", "flow_download")  # as if the files had come like this
    process = run(workspace, "snakemake", "--cores", "2", "flow", check=False)
    assert process.returncode != 0
    assert str(damaged.relative_to(workspace)) in process.stdout
    assert stages_run(workspace, "") == {TRAIN, "flow_evaluate@deq-0", "flow_baselines"}
    assert run(workspace, "dvc", "status", TRAIN).stdout.strip() == UP_TO_DATE
    assert (workspace / MODEL).exists()
    left = (workspace / "results/flow/evaluate/deq-0").rglob("*")  # at most the record of what was there before
    assert [path.name for path in left if path.name != RECORD] == []


def truncated(folder: Path) -> Path:
    """The first optical flow of Sintel, cut after 20 bytes."""
    path = min((folder / "data/flow/Sintel/training/flow").glob("*/*.flo"))
    path.write_bytes(path.read_bytes()[:20])
    return path
