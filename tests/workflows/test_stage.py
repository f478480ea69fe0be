"""The process of a stage: it becomes its command, ends with its parent, and keeps out of the other engine's way."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.workflows.checkout import ROOT

from workflows.engines import workspace

STAGE = (sys.executable, "-m", "workflows.stage")


def run_stage(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in (workspace.ENGINE, "OMP_NUM_THREADS")}
    return subprocess.run(
        [*STAGE, *command],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )


@contextmanager
def claimed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(workspace.ENGINE, "")
    monkeypatch.chdir(folder)
    held = workspace.claim()
    yield
    os.close(held)


def test_a_stage_becomes_its_command(tmp_path: Path) -> None:
    process = run_stage(tmp_path, "sh", "-c", "echo ran; exit 7")
    assert (process.stdout, process.returncode) == ("ran\n", 7)


def test_a_stage_without_command_tells_how_it_is_used(tmp_path: Path) -> None:
    process = run_stage(tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("usage:")


def test_a_missing_command_is_named_with_the_way_to_install_it(tmp_path: Path) -> None:
    process = run_stage(tmp_path, "deq-absent")
    assert process.returncode == 127
    assert process.stderr.startswith("deq-absent: command not found; install")
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("", "deq-flow {item.method}: DVC_STAGE is not set; DVC runs this, `dvc repro --single-item STAGE`\n"),
        ("flow_train@none-0", "flow_train@none-0: dvc.yaml has {item.method} in its command, and params.yaml no value"),
        ("flow_trail", "flow_trail: dvc.yaml has {item.method} in its command, and params.yaml no value for it\n"),
    ],
)
def test_a_place_that_belongs_to_no_stage_is_named(stage: str, said: str) -> None:
    process = run_stage(ROOT, "deq-flow", "{item.method}", DVC_STAGE=stage)
    assert process.returncode == 1
    assert process.stderr.startswith(said)
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("way", ["", "../dvc.yaml:"])
def test_a_stage_has_one_name_whatever_folder_dvc_is_called_in(way: str, tmp_path: Path) -> None:
    process = run_stage(tmp_path, "sh", "-c", "echo $DVC_STAGE", DVC_STAGE=f"{way}flow_train@deq-0")
    assert process.stdout == "flow_train@deq-0\n"


def test_a_stage_does_not_start_beside_a_working_snakemake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed(tmp_path, monkeypatch):
        process = run_stage(tmp_path, "touch", "started")
        assert process.returncode == 1
        assert f"snakemake (process {os.getpid()}) is at work" in process.stderr
        assert not (tmp_path / "started").exists()
        assert run_stage(tmp_path, "touch", "started", **{workspace.ENGINE: "snakemake"}).returncode == 0


def test_a_command_started_by_dvc_holds_the_workspace_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check = "from workflows.engines import workspace; workspace.check_idle()"
    process = run_stage(tmp_path, sys.executable, "-c", check)
    assert "WorkspaceBusyError" in process.stderr
    workspace.check_idle()


@pytest.mark.parametrize(("given", "seen"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_both_engines_run_a_stage_with_as_many_threads(tmp_path: Path, given: dict[str, str], seen: str) -> None:
    process = run_stage(tmp_path, "sh", "-c", "echo $OMP_NUM_THREADS", **given)
    assert process.stdout == f"{seen}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
@pytest.mark.parametrize("shell", ["sh", "bash"])  # DVC runs commands in the user's shell
def test_a_stage_dies_with_a_killed_parent(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    line = (
        f"exec {' '.join(STAGE)} {sys.executable} -c 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'"
    )
    dvc = f"import subprocess; subprocess.Popen(['{shell}', '-c', {line!r}]).communicate()"
    variables = {**os.environ, "PYTHONPATH": str(ROOT), workspace.ENGINE: ""}
    with subprocess.Popen([sys.executable, "-c", dvc], cwd=tmp_path, env=variables, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
