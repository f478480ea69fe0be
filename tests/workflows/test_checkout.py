"""Tests see the code as it is, and none of what a person has made with it."""

from pathlib import Path

import pytest
from tests.workflows.checkout import copy, environment, run


def files(folder: Path) -> dict[str, str]:
    """The files below a folder but git's own and the parameters, which are those of mini."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path): (folder / path).read_text() for path in paths if ".git" not in path.parts}


def test_a_trial_checkout_has_the_code_as_it_is_and_none_of_the_results(tmp_path: Path) -> None:
    """Of a checkout in which everything was run, and in which code is being written."""
    mine = tmp_path / "mine"
    code = {"packages/kept.py": "", "packages/edited.py": "", "packages/gone.py": "", ".gitignore": "/results\n*.pyc\n"}
    results = dict.fromkeys(
        ("dvc.lock", "results/report.md", "packages/new.pyc", "mlflow.db", "datasets/1.png"), "mine"
    )
    for name, text in {**code, **results}.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    run(mine, "git", "init", "--quiet")
    run(mine, "git", "add", "packages", ".gitignore", "dvc.lock")  # a tracked record of results is no code either
    (mine / "packages/edited.py").write_text("# an edit\n")
    (mine / "packages/new.py").write_text("# new\n")
    (mine / "packages/gone.py").unlink()
    trial = files(copy(tmp_path / "trial", mine))
    assert trial.pop("params.yaml").startswith("# The numbers")
    assert trial == {
        "packages/kept.py": "",
        "packages/edited.py": "# an edit\n",
        "packages/new.py": "# new\n",
        ".gitignore": code[".gitignore"],
    }


def test_settings_of_a_person_s_own_do_not_reach_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_GLOBAL_CONFIG_DIR", "SNAKEMAKE_PROFILE", "MLFLOW_TRACKING_URI", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(name, "/mine")
    assert [name for name, value in environment(tmp_path).items() if value == "/mine"] == []
