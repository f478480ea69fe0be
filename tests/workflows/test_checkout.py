"""Tests see the code as it is, and none of what a person has made with it."""

from pathlib import Path

import pytest
from tests.workflows.checkout import copy, edit, environment, run

RESULTS = [
    *("dvc.lock", "mlflow.db", "mlflow.db-wal", "report.html", ".scratch/flow_train/training.pt"),
    *("data/flow/manifest.json", "results/flow/report.md", "results/logs/flow_train/deq-0.log", "datasets/kitti/1.png"),
    *(".dvc/config.local", ".dvc/cache/files/md5/00/1", ".dvc/tmp/rwlock", ".snakemake/workspace.lock"),
    *("packages/deq-core/src/deq_core/__pycache__/new.cpython-311.pyc", ".venv/bin/python", "mlruns/0/meta.yaml"),
]
NEW, EDITED = "packages/deq-core/src/deq_core/new.py", "packages/deq-core/src/deq_core/__init__.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which everything was run, with parameters of a person's own, and in which code is being written."""
    folder = copy(tmp_path / "checkout")
    for name in (*RESULTS, NEW):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine\n")
    edit(folder / "params.yaml", "profile: mini", "profile: mine")
    with (folder / EDITED).open("a") as file:
        file.write("# an edit\n")
    (folder / "LICENSE").unlink()
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """The files below a folder but git's own."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_trial_checkout_has_the_code_as_it_is_and_none_of_the_results(checkout: Path, tmp_path: Path) -> None:
    pure, trial = files(copy(tmp_path / "pure")), files(copy(tmp_path / "trial", checkout))
    assert trial.keys() - pure.keys() == {NEW}
    assert pure.keys() - trial.keys() == {"LICENSE"}
    assert {name for name in pure.keys() & trial.keys() if pure[name] != trial[name]} == {EDITED}
    assert trial[EDITED] == (checkout / EDITED).read_bytes()


def test_a_tracked_record_of_results_is_no_code_either(checkout: Path, tmp_path: Path) -> None:
    run(checkout, "git", "add", "--force", "dvc.lock")
    assert not (copy(tmp_path / "trial", checkout) / "dvc.lock").exists()


def test_settings_of_a_person_s_own_do_not_reach_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_GLOBAL_CONFIG_DIR", "SNAKEMAKE_PROFILE", "MLFLOW_TRACKING_URI", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(name, "/mine")
    assert [name for name, value in environment(tmp_path).items() if value == "/mine"] == []
