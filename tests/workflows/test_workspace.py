"""One engine at a time: who may enter the workspace while who is in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.workflows.checkout import ROOT

from workflows.engines import workspace


@pytest.fixture(autouse=True)
def _empty_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(workspace.ENGINE, "")


def test_a_second_snakemake_is_refused() -> None:
    held = workspace.claim()
    with pytest.raises(workspace.WorkspaceBusyError, match="is at work in this checkout"):
        workspace.claim()
    os.close(held)
    os.close(workspace.claim())


def test_a_checkout_of_a_group_is_one_that_each_of_it_may_claim() -> None:
    before = os.umask(0o002)
    os.close(workspace.claim())
    os.umask(before)
    assert workspace.LOCK.stat().st_mode & 0o777 == 0o664


def test_a_checkout_that_cannot_be_written_is_named_with_a_remedy() -> None:
    workspace.LOCK.parent.touch()
    with pytest.raises(workspace.WorkspaceError, match=rf"{Path.cwd()}: cannot write {workspace.LOCK}.*owner or mode"):
        workspace.claim()


def test_a_stage_of_dvc_is_refused_while_snakemake_works_and_told_which_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = workspace.claim()
    monkeypatch.setenv(workspace.ENGINE, "")
    with pytest.raises(workspace.WorkspaceBusyError, match=rf"snakemake \(process {os.getpid()}\)"):
        workspace.join()
    os.close(held)


def test_a_stage_of_the_working_snakemake_is_let_in() -> None:
    held = workspace.claim()
    assert os.environ[workspace.ENGINE] == "snakemake"
    assert workspace.join() is None
    os.close(held)


def test_snakemake_is_refused_while_dvc_works_but_other_stages_of_dvc_are_not() -> None:
    first, second = workspace.join(), workspace.join()
    assert first is not None
    assert second is not None
    os.close(first)
    for refused in (workspace.claim, workspace.check_idle):
        with pytest.raises(workspace.WorkspaceBusyError):
            refused()
    os.close(second)
    workspace.check_idle()


@pytest.mark.parametrize("child", ["", "subprocess.Popen(['sleep', '30']); "])
def test_the_claim_ends_with_the_process_even_where_a_child_lives_on(child: str) -> None:
    claim = f"from workflows.engines import workspace; workspace.claim(); {child}print('claimed', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; {claim}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"claimed\n"
            with pytest.raises(workspace.WorkspaceBusyError):
                workspace.check_idle()
            process.kill()
            process.wait()
            workspace.check_idle()
        finally:
            os.killpg(process.pid, signal.SIGKILL) if child else process.kill()
