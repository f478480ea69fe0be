"""Command lines: each command is an annotated function in a module that is imported only when the command is named.

So an evaluation does not import the code of the demo, and a stage of the pipeline depends on its own commands alone.
"""

import hashlib
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import tyro

from deq_core import ConvergenceError
from deq_core.experiment import config, distributed
from deq_core.experiment.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_core.experiment.errors import LayoutError, NonFiniteError
from deq_core.experiment.files import OutputError
from deq_core.experiment.resume import DownloadError
from deq_core.experiment.unpack import ArchiveError

PARAMS = Path("params.yaml")

Positional = tyro.conf.Positional
"""Marks a parameter that is given without its name: `Annotated[Path, Positional]`."""

EXPECTED = (
    ArchiveError,
    CheckpointError,
    ConfigError,
    ConvergenceError,
    DownloadError,
    LayoutError,
    NonFiniteError,
    OutputError,
)
"""Errors whose message is all a user needs; any other is a defect and shows its traceback."""


def run(
    prog: str,
    description: str,
    commands: Mapping[str, Sequence[str]],
    *,
    expected: Sequence[type[Exception]] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs the command that the first argument names; leaves with a message where it failed as it may.

    Args:
        prog: name of the program.
        description: one sentence for `--help`.
        commands: {module: names of its commands}; a command `check-data` is the function `check_data` of its module.
        expected: further errors whose message is all a user needs.
        arguments: of the command line; `sys.argv` by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    named = {module: names for module, names in commands.items() if given and given[0] in names}
    app = tyro.extras.SubcommandApp()
    for function in functions(named or commands):
        app.command(function)
    try:
        app.cli(prog=prog, description=description, args=given, sort_subcommands=False)
    except (*EXPECTED, *expected) as error:
        sys.exit(f"{prog}: {error}")


def functions(commands: Mapping[str, Sequence[str]]) -> list[Callable[..., None]]:
    """The functions behind the names of commands."""
    return [
        getattr(importlib.import_module(module), name.replace("-", "_"))
        for module, names in commands.items()
        for name in names
    ]


def default(text: str) -> object:
    """Marks a parameter whose default is chosen later: `Annotated[Path | None, default("data")]` says so in help."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


def fingerprint(parameters: Mapping[str, object], *files: Path, package: str) -> str:
    """Digest of what a training depends on, the code included: only a training that is the same may be resumed.

    Args:
        parameters: dataclasses and plain values.
        files: whose content counts.
        package: import name of the package that trains; its sources count beside those of deq_core.

    Raises:
        ConfigError: there is no such file.
    """
    digest = hashlib.sha256(json.dumps(config.plain(parameters), sort_keys=True).encode())
    for path in [*sources(package, "deq_core"), *files]:
        try:
            digest.update(path.read_bytes())
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: no such file; name the folder that an earlier command wrote it to, or run that command first"
            ) from None
    return digest.hexdigest()[:16]


@contextmanager
def resumable(scratch: Path, name: str, digest: str) -> Iterator[Path]:
    """The folder below `scratch` that the training `name` resumes from, where its `fingerprint` is still `digest`.

    When the block is left without an error, it is removed, and with it those that earlier versions left behind.
    """
    yield scratch / f"{name}-{digest}"
    if distributed.rank() == 0:
        for finished in scratch.glob(f"{name}-*"):
            shutil.rmtree(finished)


def sources(*packages: str) -> list[Path]:
    """The source files of some packages."""
    files = [importlib.import_module(package).__file__ for package in packages]
    folders = [Path(file).parent for file in files if file is not None]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def finish(values: Mapping[str, float]) -> None:
    """Prints the result as one line of JSON, the last line of every command."""
    print(json.dumps({key: round(value, 6) for key, value in values.items()}))
