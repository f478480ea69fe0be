"""Command lines: each command is an annotated function in a module that is imported only when the command is named.

So an evaluation does not import the code of the demo, and a stage of the pipeline depends on its own commands alone.
"""

import errno
import functools
import hashlib
import importlib
import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from deq_core import ConvergenceError
from deq_core.experiment import config, distributed
from deq_core.experiment.config import ConfigError
from deq_core.experiment.ending import ending
from deq_core.experiment.errors import UserError, out_of_memory
from deq_core.experiment.files import OutputError, discard, output_files, require_own, require_writable, write_bytes
from deq_core.experiment.written import written_by

PARAMS = Path("params.yaml")

Positional = tyro.conf.Positional
"""Marks a parameter that is given without its name: `Annotated[Path, Positional]`."""

UNREACHABLE = {
    errno.EACCES: "change its owner or mode, or those of the folders above it",
    errno.EPERM: "change its owner or mode, or those of the folders above it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}
"""What to do where the system lets nobody, or not this user, look at a path: never a defect of a command."""

PLACES = ("checkpoint", "model", "more", "source", "start")
"""Parameters whose text may be the path of something that the command reads, unless it is one of some words. Those that
are paths always are."""


@dataclass(frozen=True)
class Files:
    """Marks the parameter `out` of a command that does not make it a folder: `Annotated[Path, CHECKPOINT]`."""

    of: Callable[[Path], Sequence[Path]]
    """The files that it may write."""


FILE = Files(lambda out: (out,))
CHECKPOINT = Files(lambda out: (out, out.with_name("config.json")))
ADDED = Files(lambda out: ())
"""The command adds to the folder, or calls `output_directory` before it does anything else."""


def run(
    prog: str,
    description: str,
    commands: Mapping[str, Sequence[str]],
    *,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs the command that the first argument names; leaves with a message where it failed as it may, or was ended.

    Args:
        prog: name of the program, and of the package that is installed with it.
        description: one sentence for `--help`.
        commands: {module: names of its commands}; a command `check-data` is the function `check_data` of its module.
        arguments: of the command line; `sys.argv` by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may be no UTF-8, or a terminal's encoding lack it
    with ending(prog):
        if given == ["--version"]:
            print(f"{prog} {version(prog)}")
            return
        named = {module: names for module, names in commands.items() if given and given[0] in names}
        app = tyro.extras.SubcommandApp()
        for function in functions(named or commands):
            command = careful(function, prog)
            if not named:
                command.__doc__ = (command.__doc__ or "").partition("\n\n")[0]  # the list of commands is short
            app.command(command)
        whole = f"{description} `{prog} COMMAND --help` explains a command, and --version prints the version."
        try:
            app.cli(prog=prog, description=whole, args=given, sort_subcommands=False)
        except (UserError, ConvergenceError) as error:
            sys.exit(f"{prog}: {error}")
        except SystemExit:
            sys.stdout.flush()  # of --help, which may be read no further
            raise
        except OSError as error:
            if error.errno not in UNREACHABLE or error.filename is None:
                raise
            sys.exit(f"{prog}: {error.filename}: {error.strerror}; {UNREACHABLE[error.errno]}, or name another path")
        except Exception as error:
            if not out_of_memory(error):
                raise
            remedy = "take fewer samples at once, smaller ones, or a machine with more memory; trainings resume"
            sys.exit(f"{prog}: out of memory: {remedy} ({' '.join(str(error).split())})")


def docstring(command: Callable[..., None]) -> str:
    """The docstring of a command; that of a method has {stages} for the keys of its object's mapping `stages`."""
    said, owner = inspect.getdoc(command) or "", getattr(command, "__self__", None)
    if owner is None:
        return said
    return said.format_map(
        {name: ", ".join(value) for name, value in vars(owner).items() if isinstance(value, Mapping)}
    )


def unwrapped(docstring: str) -> str:
    """A docstring with every paragraph and argument in one line, as tyro keeps the line breaks of arguments."""
    return re.sub(r"(?<=\S)\n(?: {8,})?(?=\S)", " ", docstring)


def with_metavar(name: str, hint: Any) -> Any:
    """The annotation of a parameter, with what help shows for its value: NAME if positional, INT for `int | None`."""
    plain, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    kinds = get_args(plain)
    if Positional in marks and get_origin(plain) is not Literal:
        if kinds:  # any number of words, so none as well
            return Annotated[hint, tyro.conf.arg(metavar=f"[{name.upper()} ...]", help_behavior_hint="")]
        return Annotated[hint, tyro.conf.arg(metavar=name.upper())]
    if NoneType not in kinds:
        return hint
    shown = "|".join(kind_of_value(kind) for kind in kinds if kind is not NoneType)
    return Annotated[hint, tyro.conf.arg(metavar=shown)]


def kind_of_value(type: Any) -> str:
    """INT for `int`, {a,b} for `Literal["a", "b"]`, INT INT for `tuple[int, int]`."""
    if get_origin(type) is Literal:
        return f"{{{','.join(get_args(type))}}}"
    return " ".join(map(kind_of_value, get_args(type))) if get_args(type) else type.__name__.upper()


def functions(commands: Mapping[str, Sequence[str]]) -> list[Callable[..., None]]:
    """The functions behind the names of commands."""
    return [
        getattr(importlib.import_module(module), name.replace("-", "_"))
        for module, names in commands.items()
        for name in names
    ]


def careful(command: Callable[..., None], prog: str) -> Callable[..., None]:
    """The command, which begins only where `out` is new or its own as it left it, and nothing that it reads.

    `out` is what a command calls the folder that it makes, or with a mark what it writes instead, see `Files`.

    Raises:
        ConfigError: an argument is not what its type says, such as `config.Seed`.
        OutputError: `out` is anything else, and nothing was done.
    """
    title = f"{prog} {command.__name__.replace('_', '-')}"
    hints = get_type_hints(command, include_extras=True)
    mark = next((one for one in getattr(hints.get("out"), "__metadata__", ()) if isinstance(one, Files)), None)
    words = {name for name, hint in get_type_hints(command).items() if get_origin(hint) is Literal}
    signature = inspect.signature(command)

    @functools.wraps(command)
    def begin(*values: Any, **named: Any) -> None:
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        config.check_options(hints, bound.arguments)
        out: Path | None = bound.arguments.get("out")
        folder = out if mark is None else None
        files = () if out is None or mark is None else mark.of(out)
        with written_by(title, asked=folder):
            for path in files if folder is None else [folder]:
                read = {name: value for name, value in bound.arguments.items() if name not in words}
                refuse_input(path, read, folder=folder is not None)
            if folder is not None:
                require_writable(folder, folder=True)
                require_own(folder, folder=True)
            with output_files(files):
                command(*values, **named)

    begin.__doc__ = unwrapped(docstring(command))
    begin.__annotations__ = {name: with_metavar(name, hint) for name, hint in hints.items()}
    begin.__dict__["__signature__"] = signature
    del begin.__wrapped__  # whose docstring and annotations tyro would read
    return begin


def refuse_input(out: Path, arguments: Mapping[str, Any], *, folder: bool) -> None:
    """Raises OutputError where the file or folder `out` is what a command reads, or such a folder holds it."""
    for name, source in inputs(arguments):
        place = source.resolve()
        for path in (place, *place.parents) if folder else (place,):
            if path == out.resolve() or (path.exists() and out.exists() and path.samefile(out)):
                inside = "" if path == place else f" {source} in"
                raise OutputError(f"cannot write {out}: the command reads{inside} it ({name}): choose another name")


def inputs(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """What a command reads, by the name of the parameter; the working directory too, which is nothing to replace."""
    for name, value in arguments.items():
        for one in value if isinstance(value, tuple) else (value,):
            if name != "out" and (isinstance(one, Path) or (name in PLACES and one and Path(one).exists())):
                yield name, Path(one)
    yield "the working directory", Path()


AIM = "out"
"""The file in the folder of an unfinished training that says which folder it is to write."""

Flat = tyro.conf.OmitArgPrefixes
"""Marks a dataclass whose fields are options of the command by their own names: `Annotated[Options, Flat]`."""


def required() -> object:
    """Marks a parameter that the command asks for itself, since it can do without where it does something else."""
    return tyro.conf.arg(help_behavior_hint="(required)")


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
def resumable(scratch: Path, name: str, digest: str, *, out: Path) -> Iterator[Path]:
    """The folder below `scratch` that the training `name` resumes from, where its `fingerprint` is still `digest`.

    When the block is left without an error, it is removed, and with it those that earlier versions of the same training
    left behind, which were to write the same `out`: others of that name are trainings that may go on. That one cannot
    be removed is a warning: the training is done.
    """
    folder, aim = scratch / f"{name}-{digest}", os.fsencode(out.resolve())
    if distributed.rank() == 0:
        write_bytes(folder / AIM, aim)
    yield folder
    if distributed.rank() == 0 and scratch.is_dir():
        for finished in scratch.iterdir():
            said, alike = finished / AIM, re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{16}}", finished.name)
            if finished == folder or (alike and said.is_file() and said.read_bytes() == aim):
                try:
                    discard(finished, ("training.pt", "tracking.json", AIM))
                except OSError as error:
                    warnings.warn(f"{finished} is not needed any more, but stays: {error.strerror}", stacklevel=2)


def sources(*packages: str) -> list[Path]:
    """The source files of some packages."""
    files = [importlib.import_module(package).__file__ for package in packages]
    folders = [Path(file).parent for file in files if file is not None]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def finish(values: Mapping[str, float]) -> None:
    """Prints the result as one line of JSON, the last line of every command: six decimals, or four digits of less."""
    small = {key: float(f"{value:.4g}") for key, value in values.items() if 0 < abs(value) < 1e-3}
    print(json.dumps({key: small.get(key, round(value, 6)) for key, value in values.items()}))


def finish_with(problems: Sequence[object]) -> None:
    """Prints what a check found, a line each, and how much; exits with 1 if that is something."""
    print("".join(f"{problem}\n" for problem in problems), end="")
    finish({"problems": len(problems)})
    if problems:
        sys.exit(1)
