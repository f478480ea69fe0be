"""One run per experiment, with everything needed to find where a number came from."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from deq_core.experiment import config
from deq_core.experiment.files import OutputError
from deq_core.experiment.tracking import recording
from deq_core.experiment.tracking.find import find
from deq_core.experiment.tracking.run import ignore, track
from deq_core.experiment.tracking.store.keys import key_of

pytestmark = pytest.mark.usefixtures("tracking_database")


@dataclass(frozen=True)
class Recipe:
    lr: float = 1e-3
    record: tuple[int, ...] = (4, 8)


@pytest.fixture
def client(tracking_database: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{tracking_database}")


def runs(client: MlflowClient) -> list[Run]:
    """All runs, the first one first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def logged(run: Run) -> dict[str, float]:
    """The metrics of a run but for what it cost."""
    return {name: value for name, value in run.data.metrics.items() if not name.startswith("system/")}


def artifacts(client: MlflowClient, run: Run) -> list[str]:
    return sorted(entry.path for entry in client.list_artifacts(run.info.run_id))


def test_a_run_says_what_ran_and_with_what(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("{profile: smoke, run: {lr: 0.5}}")
    (tmp_path / "data").write_bytes(b"input")
    (tmp_path / "set").mkdir()
    manifest = tmp_path / "set" / "manifest.json"
    manifest.write_text("{}")
    recipe = config.load(Recipe, tmp_path / "params.yaml", "run")
    out = tmp_path / "out"
    said = {"case": {"method": "deq", "seed": 3}, "inputs": [Path("data")], "tags": {"why": "test"}, "data": [manifest]}
    with track("flow.train", {"recipe": recipe}, out=out, **said) as log:
        log({"loss": 0.5, "epe": 2.0}, 1)
        log({"loss": 0.25}, 2)
        out.mkdir()
        (out / "model.safetensors").write_bytes(b"weights")
        (out / "metrics.json").write_text("{}")
        (out / "curve.svg").write_text("<svg/>")
    (run,) = runs(client)
    assert run.info.run_name == "flow.train deq seed 3"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"recipe.lr": "0.5", "recipe.record": "[4, 8]"}
    assert logged(run) == {"loss": 0.25, "epe": 2.0}
    assert run.data.metrics["system/cpu_seconds"] > 0
    assert 50 < run.data.metrics["system/peak_memory_megabytes"] < 50_000
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")] == [0.5, 0.25]
    tags = run.data.tags
    assert tags["why"] == "test"
    expected = {"profile": "smoke", "pipeline": "flow", "kind": "train", "method": "deq", "seed": "3", "case.seed": "3"}
    assert {name: tags.get(name) for name in expected} == expected
    assert tags["threads"] == "1"
    assert tags["engine"] == "none"
    assert tags["mlflow.source.name"] == " ".join(sys.argv)
    assert tags["version.python"].startswith("3.")
    assert "version.torch" in tags
    assert "version.deq-core" in tags
    assert "run" in tags["params.sections"].split(",")
    assert tags["dep.data"] == hashlib.md5(b"input").hexdigest()
    assert tags["out.out/model.safetensors"] == hashlib.md5(b"weights").hexdigest()
    assert run.inputs is not None
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("set", hashlib.md5(b"{}").hexdigest())
    assert tags["dep.set/manifest.json"] == used.dataset.digest
    assert artifacts(client, run) == ["config.json", "curve.svg", "metrics.json"]
    kept = client.download_artifacts(run.info.run_id, "config.json", str(tmp_path))
    assert json.loads(Path(kept).read_text()) == {"recipe": {"lr": 0.5, "record": [4, 8]}}
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "flow"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert str(experiment.artifact_location).startswith(tmp_path.as_uri())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flow.train", "train"),
        ("vision.evaluate", "evaluate"),
        ("flow.baselines", "baselines"),
        ("a.paths", "study"),
        ("flow.reuse_report", "report"),
    ],
)
def test_a_run_says_of_what_kind_it_is_and_of_which_model(
    name: str, kind: str, client: MlflowClient, tmp_path: Path
) -> None:
    model = tmp_path / "deq-0" / "model.safetensors"
    with track(name, {}, out=tmp_path / "out", case={"experiment": "digits"}, parent_of=model):
        pass
    (run,) = runs(client)
    assert run.data.tags["kind"] == kind
    assert run.data.tags["method"] == "digits"
    assert run.data.tags["model"] == "deq-0/model.safetensors"


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_a_stage_names_its_run(
    engine: str, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "flow_train@deq-0")
    if engine != "dvc":  # which says no more
        monkeypatch.setenv("DEQ_ENGINE", engine)
    with track("flow.train", {}, out=tmp_path / "out"):
        pass
    (run,) = runs(client)
    assert run.info.run_name == "flow_train deq-0"
    assert run.data.tags["dvc.stage"] == "flow_train@deq-0"
    assert run.data.tags["engine"] == engine


def test_the_commit_and_whether_files_differ_from_it(client: MlflowClient, tmp_path: Path) -> None:
    def git(*command: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *identity, *command], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "first")
    for text in ("1", "2"):
        (tmp_path / "file").write_text(text)
        with track("flow", {}, out=tmp_path / "out"):
            pass
    clean, dirty = runs(client)
    assert clean.data.tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert (clean.data.tags["git.dirty"], dirty.data.tags["git.dirty"]) == ("false", "true")


def test_an_output_that_cannot_be_written_ends_before_there_is_a_run(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (Path("/proc/no/out"), tmp_path / "file" / "out", tmp_path / "file"):
        with pytest.raises(OutputError, match=f"cannot write {out}"), track("flow", {}, out=out):
            raise AssertionError("the block must not begin")
    assert runs(client) == []


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////sys/deq/mlflow.db")
    remedy = "cannot write /sys/deq/mlflow.db: .* MLFLOW_TRACKING_URI names another place"
    with pytest.raises(OutputError, match=remedy), track("flow", {}, out=tmp_path / "out"):
        raise AssertionError("the block must not begin")


@pytest.mark.parametrize("kind", ["text", "folder"])
def test_a_store_that_is_no_database_is_named_and_kept(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    if kind == "text":
        path.write_text("no database\n" * 100)
    else:
        path.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(OutputError, match=f"{path}: .* move it away"), track("flow", {}, out=tmp_path / "out"):
        raise AssertionError("the block must not begin")
    assert path.is_dir() or path.read_text().startswith("no database")


@pytest.mark.parametrize("part", ["file", "folder"])
def test_a_store_that_may_not_be_written_is_named_and_read(
    part: str, client: MlflowClient, tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with track("flow", {}, out=tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").write_text("1")
    kept = tracking_database if part == "file" else tracking_database.parent
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda name, mode: Path(name) != kept and allowed(name, mode))  # root may all
    refusal = f"cannot write {tracking_database}: .* owner or mode"
    with pytest.raises(OutputError, match=refusal), track("flow", {}, out=tmp_path / "elsewhere" / "out"):
        raise AssertionError("the block must not begin")
    (run,) = runs(client)
    assert find(tmp_path / "out" / "file") == run.info.run_id


@pytest.mark.parametrize(("error", "status"), [(ValueError("bad\nworse"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_an_error_passes_and_its_run_says_so(
    client: MlflowClient, tmp_path: Path, error: BaseException, status: str
) -> None:
    def block() -> None:
        with track("flow", {}, out=tmp_path / "out") as log:
            log({"loss": 1.0}, 1)
            raise error

    with pytest.raises(type(error)):
        block()
    (run,) = runs(client)
    assert run.info.status == status
    assert logged(run) == {"loss": 1.0}
    assert run.data.tags["error"] == ("ValueError: bad" if status == "FAILED" else "KeyboardInterrupt: ")


KILLED = """
import sys, time
from pathlib import Path
from deq_core.experiment.tracking.run import track
with track("flow.train", {"lr": 1}, out=Path("out"), seed=0, scratch=Path("scratch")) as log:
    for step in range(1, 51):
        log({"loss": 1 / step, "epe": 2 / step}, step)
    log.flush()
    log({"loss": -1.0}, 51)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_is_marked_by_the_next_run_and_continued_in_its_own(
    client: MlflowClient, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with track("flow", {}, out=tmp_path / "other"):
            pass
        assert [run.info.status for run in runs(client)] == ["RUNNING", "FINISHED"], "its process runs"
        process.send_signal(signal.SIGKILL)
    with track("delta", {}, out=tmp_path / "other"):
        assert [run.info.status for run in runs(client)] == ["KILLED", "FINISHED", "RUNNING"]
    scratch = tmp_path / "scratch"
    with track("flow.train", {"lr": 1}, out=tmp_path / "out", seed=0, scratch=scratch) as log:
        for step in range(1, 101):
            log({"loss": 1 / step, **({"epe": 2 / step} if step != 40 else {}), "new": 1.0}, step)
    run, *others = runs(client)
    assert run.info.status == "FINISHED"
    assert len(others) == 2
    for name, steps in (("loss", 100), ("epe", 100), ("new", 100)):
        history = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == list(range(1, steps + 1))
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")][50] == 1 / 51
    assert not list(tmp_path.glob("out/*")), "the identity of a run belongs to no output"
    with track("flow.train", {"lr": 1}, out=tmp_path / "out", seed=0, scratch=scratch):
        pass
    assert len(runs(client)) == 4, "a finished run is not continued"


def test_a_failed_run_is_continued_and_its_error_forgotten(client: MlflowClient, tmp_path: Path) -> None:
    def attempt(fails: bool) -> None:
        with track("flow", {}, out=tmp_path / "out", scratch=tmp_path / "scratch"):
            if fails:
                raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        attempt(fails=True)
    attempt(fails=False)
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags


def test_an_evaluation_is_the_child_of_the_last_training_that_wrote_its_model(
    client: MlflowClient, tmp_path: Path
) -> None:
    model = tmp_path / "train" / "model.safetensors"
    for weights in (b"first", b"second", b"first"):
        with track("flow.train", {}, out=model.parent):
            model.parent.mkdir(exist_ok=True)
            model.write_bytes(weights)
    with track("flow.evaluate", {}, out=tmp_path / "evaluate", parent_of=model):
        pass
    _, second, third, evaluation = runs(client)
    assert evaluation.data.tags["mlflow.parentRunId"] == third.info.run_id
    assert evaluation.data.tags["dep.train/model.safetensors"] == hashlib.md5(b"first").hexdigest()
    assert find(Path("train/model.safetensors")) == third.info.run_id
    model.write_bytes(b"second")
    assert find(model) == second.info.run_id
    model.write_bytes(b"third")
    assert find(model) is None
    assert find(tmp_path / "nowhere") is None
    with track("flow.evaluate", {}, out=tmp_path / "evaluate", parent_of=model):
        pass
    assert "mlflow.parentRunId" not in runs(client)[-1].data.tags


def test_metrics_travel_together(client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, metrics=(), **entries) -> None:
        if metrics:
            sent.append(len(metrics))
        log_batch(self, run_id, metrics=metrics, **entries)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    with track("flow", {}, out=tmp_path / "out") as log:
        for step in range(1200):
            log({"loss": 0.0}, step)
        assert sent == []
        monkeypatch.setattr(recording, "_FLUSH_SECONDS", 0.0)
        log({"loss": 0.0}, 1200)
        assert sent == [1000, 201]
        monkeypatch.setattr(recording, "_FLUSH_SECONDS", 10.0)
        log({"loss": 0.0}, 1201)
    assert sent == [1000, 201, 3]  # with CPU time and memory


NAMES = ["epe@1", "a=b/epe", "lr: 1e-3 (best)", "../epe", "a//b", "", "ü", "n" * 400]


def test_any_name_is_a_metric_and_a_parameter(client: MlflowClient, tmp_path: Path) -> None:
    tags = {f"why.{name}": "x" for name in NAMES}
    with track("flow", {"recipe": dict.fromkeys(NAMES, 0.5)}, out=tmp_path / "out", tags=tags) as log:
        for step in (1, 2):
            log(dict.fromkeys(NAMES, float(step)), step)
    (run,) = runs(client)
    assert logged(run) == {key_of(name): 2.0 for name in NAMES}
    assert run.data.params == {key_of(f"recipe.{name}"): "0.5" for name in NAMES}
    assert {key: run.data.tags[key_of(key)] for key in tags} == tags


PATHS = ["lr=1e-3", "o'neil", "a`b", 'a"b', "a\\b", "a\nb", "a:b", " a ", "e\u0301", "🎉", "-x", "~", "[*]"]


def test_any_path_is_a_tag_and_found_by_it(client: MlflowClient, tmp_path: Path) -> None:
    inputs = [tmp_path / "in" / name for name in [*PATHS, os.fsdecode(b"no \xff utf-8"), "/".join(["long" * 50] * 3)]]
    out = tmp_path / "runs" / "lr=1e-3, 'a' (2)"
    for path in inputs:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"content of {path!a}")
    with track("flow.train", {}, out=out, inputs=inputs):
        for path in inputs:
            written = out / path.relative_to(tmp_path / "in")
            written.parent.mkdir(exist_ok=True, parents=True)
            written.write_bytes(path.read_bytes())
    (run,) = runs(client)
    for path in inputs:
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        assert run.data.tags[key_of(f"dep.{path.relative_to(tmp_path)}")] == digest
        assert find(out / path.relative_to(tmp_path / "in")) == run.info.run_id
    long = f"out.{(out / inputs[-1].relative_to(tmp_path / 'in')).relative_to(tmp_path)}"
    assert run.data.tags[f"name.{hashlib.md5(long.encode()).hexdigest()}"] == long


def test_values_longer_than_the_store_takes_are_cut(client: MlflowClient, tmp_path: Path) -> None:
    case = {"checkpoint": "\udcff" + "c" * 9000}
    with track("flow", {"words": "a" * 9000}, out=tmp_path / "out", case=case, tags={"why": "\udcff" + "b" * 9000}):
        pass
    (run,) = runs(client)
    assert run.info.run_name == "flow \\udcff" + "c" * 239
    assert run.data.params["words"] == "a" * 6000
    assert run.data.tags["why"].startswith("\\udcffbbb")


def test_an_experiment_that_somebody_deleted_is_named_with_the_way_back(client: MlflowClient, tmp_path: Path) -> None:
    with track("flow.train", {}, out=tmp_path / "out"):
        pass
    (run,) = runs(client)
    client.delete_experiment(run.info.experiment_id)
    restore = f"mlflow experiments restore --experiment-id {run.info.experiment_id}"
    with pytest.raises(OutputError, match=f"the experiment flow was deleted there .*{restore}"):
        track("flow.train", {}, out=tmp_path / "out").__enter__()


@pytest.mark.parametrize("text", ['{"run": "ab', "", "[]", '{"run": 5}', '{"run": "../x"}', "\0" * 100, "[" * 100_000])
def test_a_damaged_identity_is_refused_by_name(text: str, client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "tracking.json").write_text(text)
    with (
        pytest.raises(OutputError, match=r"tracking\.json: expected the ID of a run, .*: remove that file"),
        track("flow", {}, out=tmp_path / "out", scratch=tmp_path / "scratch"),
    ):
        pytest.fail("the block has begun")
    assert runs(client) == []


def test_the_lesser_processes_of_a_training_track_nothing(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with track("flow", {}, out=tmp_path / "out") as log:
        log({"loss": 1.0}, 1)
    assert log is ignore
    assert runs(client) == []


def test_mlflow_is_imported_when_a_run_begins_and_not_before() -> None:
    modules = "deq_core.experiment.training.fit, deq_core.experiment.tracking.run"
    script = f"import sys, {modules}; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_model_that_is_not_there_is_for_the_block_to_miss(client: MlflowClient, tmp_path: Path) -> None:
    with (
        pytest.raises(LookupError, match="no model"),
        track("flow.evaluate", {}, out=tmp_path / "out", parent_of=tmp_path / "model.safetensors"),
    ):
        raise LookupError("no model")
    (run,) = runs(client)
    assert run.info.status == "FAILED"
    assert "mlflow.parentRunId" not in run.data.tags
