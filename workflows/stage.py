"""Runs the command of one stage: `python -m workflows.stage COMMAND [ARGUMENT ...]`.

The process takes the lock of the workspace, ends with the DVC process that started it, and becomes the command, with
its placeholders filled in (engines/commands.py) by the stage's name. It runs the code of its own checkout.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from workflows.engines import cache, commands, parameters, workspace

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(command: list[str]) -> int:
    """Replaces this process by `command`; returns an exit status only if that fails."""
    if not command:
        print("usage: python -m workflows.stage COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    die_with_parent()
    try:
        stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
        if stage:  # in another folder, DVC puts the path of dvc.yaml in front
            os.environ["DVC_STAGE"] = stage
        command = commands.filled(command, stage)
        if workspace.join() is not None and stage:  # Snakemake has checked the whole cache before it began
            cache.mend_outputs_of(stage)
    except (
        parameters.ParameterError,
        commands.StageError,
        cache.CacheError,
        workspace.WorkspaceError,
    ) as error:
        print(error, file=sys.stderr)
        return 1
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Snakemake sets it for a rule of one thread
    os.environ["PYTHONPATH"] = search_path()
    if (store := store_of_experiments()) is not None:
        os.environ.setdefault("MLFLOW_TRACKING_URI", store)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        print(
            f"{command[0]}: command not found; install the packages into this environment with `make install` "
            "or `pip install -c constraints.txt -r requirements.txt`, or activate the one they are in",
            file=sys.stderr,
        )
        return 127


def sources(folder: Path = Path()) -> list[str]:
    """Source folders of this checkout's packages, whose code its stages depend on and must run."""
    return [str(path.resolve()) for path in sorted(folder.glob("packages/*/src"))]


def search_path() -> str:
    """The PYTHONPATH with which a process runs the code of this checkout."""
    return os.pathsep.join(filter(None, (*sources(), os.environ.get("PYTHONPATH"))))


def store_of_experiments() -> str | None:
    """The tracking store of the checkout that queued this experiment; None outside of queued experiments.

    DVC runs queued experiments in copies below .dvc/tmp/exps, which it removes afterwards.
    """
    for parent in Path.cwd().parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return f"sqlite:///{parent.parents[2] / 'mlflow.db'}"
    return None


def die_with_parent() -> None:
    """Asks Linux to kill this process, and the command that replaces it, when its parent ends.

    A stage that outlives a killed DVC would write outputs which nobody records, at the same time as the next run.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # the parent ended before the request
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
