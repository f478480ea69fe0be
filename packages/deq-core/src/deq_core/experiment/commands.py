"""Command lines: each command is an annotated function, whose module is imported only if the command is called.

So an evaluation does not import the code of the demo, and a stage of the pipeline depends only on its own commands.
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
from deq_core.experiment.outputs.written import written_by

PARAMS = Path("params.yaml")

Positional = tyro.conf.Positional
"""Marks a positional argument: `Annotated[Path, Positional]`."""

UNREACHABLE = {
    errno.EACCES: "change its owner or mode, or those of the folders above it",
    errno.EPERM: "change its owner or mode, or those of the folders above it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}
"""{errno: remedy} for paths that cannot be accessed, which is never a bug of a command."""

PLACES = ("checkpoint", "model", "more", "source", "start")
"""String parameters that may be the path of an input, unless their type is a `Literal`. Parameters of type `Path`
always are."""


@dataclass(frozen=True)
class Files:
    """Marks the parameter `out` of a command that does not write a new folder: `Annotated[Path, CHECKPOINT]`."""

    of: Callable[[Path], Sequence[Path]]
    """Function from `out` to the files that the command may write."""


FILE = Files(lambda out: (out,))
CHECKPOINT = Files(lambda out: (out, out.with_name("config.json")))
ADDED = Files(lambda out: ())
"""The command adds to an existing folder, or calls `output_directory` first."""


def run(
    prog: str,
    description: str,
    commands: Mapping[str, Sequence[str]],
    *,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs the command that the first argument names; expected errors and interrupts exit without a traceback.

    Args:
        prog: name of the program and of its installed package.
        description: one sentence for `--help`.
        commands: {module: names of its commands}; command `check-data` is the function `check_data` of its module.
        arguments: command-line arguments; `sys.argv` by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names that the terminal cannot encode
    with ending(prog):
        if given == ["--version"]:
            print(f"{prog} {version(prog)}")
            return
        named = {module: names for module, names in commands.items() if given and given[0] in names}
        app = tyro.extras.SubcommandApp()
        for function in functions(named or commands):
            command = careful(function, prog)
            if not named:
                command.__doc__ = (command.__doc__ or "").partition("\n\n")[0]  # summaries for the list of commands
            app.command(command)
        whole = f"{description} `{prog} COMMAND --help` explains a command, and --version prints the version."
        try:
            app.cli(prog=prog, description=whole, args=given, sort_subcommands=False)
        except (UserError, ConvergenceError) as error:
            sys.exit(f"{prog}: {error}")
        except SystemExit:
            sys.stdout.flush()  # raises BrokenPipeError here if nobody reads --help further
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
    """A docstring with each paragraph and argument on one line, since tyro keeps line breaks in arguments."""
    return re.sub(r"(?<=\S)\n(?: {8,})?(?=\S)", " ", docstring)


def with_metavar(name: str, hint: Any) -> Any:
    """The annotation of a parameter with its metavar in help: NAME if positional, INT for `int | None`."""
    plain, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    kinds = get_args(plain)
    if Positional in marks and get_origin(plain) is not Literal:
        if kinds:  # any number of words, even none
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
    """The functions of commands."""
    return [
        getattr(importlib.import_module(module), name.replace("-", "_"))
        for module, names in commands.items()
        for name in names
    ]


def careful(command: Callable[..., None], prog: str) -> Callable[..., None]:
    """Wraps a command with checks of its arguments and of its parameter `out`.

    `out` is the folder that the command writes, or what its mark `Files` says. It must be new or unchanged output of
    the same command, and must not be or contain an input.

    Raises:
        ConfigError: an argument does not fit its type, such as `config.Seed`.
        OutputError: `out` is not allowed; nothing was done.
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
    del begin.__wrapped__  # tyro would read its docstring and annotations
    return begin


def refuse_input(out: Path, arguments: Mapping[str, Any], *, folder: bool) -> None:
    """Raises OutputError if `out` is an input of the command, or a folder that contains one."""
    for name, source in inputs(arguments):
        place = source.resolve()
        for path in (place, *place.parents) if folder else (place,):
            if path == out.resolve() or (path.exists() and out.exists() and path.samefile(out)):
                inside = "" if path == place else f" {source} in"
                raise OutputError(f"cannot write {out}: the command reads{inside} it ({name}): choose another name")


def inputs(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Inputs of a command as (parameter name, path), and the working directory, which must not be replaced either."""
    for name, value in arguments.items():
        for one in value if isinstance(value, tuple) else (value,):
            if name != "out" and (isinstance(one, Path) or (name in PLACES and one and Path(one).exists())):
                yield name, Path(one)
    yield "the working directory", Path()


AIM = "out"
"""File in the folder of an unfinished training with the path of its output relative to the scratch folder."""

Flat = tyro.conf.OmitArgPrefixes
"""Marks a dataclass whose fields become options without a prefix: `Annotated[Options, Flat]`."""


def required() -> object:
    """Marks a parameter that help shows as required; the command checks it, since some modes do without."""
    return tyro.conf.arg(help_behavior_hint="(required)")


def default(text: str) -> object:
    """Marks a parameter whose default is chosen later; help shows `text`: `Annotated[Path | None, default("data")]`."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


def fingerprint(parameters: Mapping[str, object], *files: Path, package: str) -> str:
    """Digest of everything that a training depends on, including code: only an identical training may be resumed.

    Args:
        parameters: dataclasses and plain values.
        files: files whose content is included.
        package: import name of the package that trains; its sources and those of deq_core are included.

    Raises:
        ConfigError: a file does not exist.
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
    """Yields the folder below `scratch` from which the training `name` with this `fingerprint` and `out` resumes.

    After a block without errors the folder is removed, together with those of earlier versions of this training, which
    have the same `name` and `out`. Folders of the same name with another `out` belong to other trainings. If a folder
    cannot be removed, this only warns. `out` counts relative to `scratch`, so that a copy of both resumes too.
    """
    aim = os.fsencode(os.path.relpath(out, scratch))
    folder = scratch / f"{name}-{hashlib.sha256(digest.encode() + aim).hexdigest()[:16]}"
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
    """All source files of packages."""
    files = [importlib.import_module(package).__file__ for package in packages]
    folders = [Path(file).parent for file in files if file is not None]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def finish(values: Mapping[str, float]) -> None:
    """Prints a command's result as its last line, in JSON: six decimals, or four significant digits if below 1e-3."""
    small = {key: float(f"{value:.4g}") for key, value in values.items() if 0 < abs(value) < 1e-3}
    print(json.dumps({key: small.get(key, round(value, 6)) for key, value in values.items()}))


def finish_with(problems: Sequence[object]) -> None:
    """Prints the problems, one per line, and their number; exits with status 1 if there are any."""
    print("".join(f"{problem}\n" for problem in problems), end="")
    finish({"problems": len(problems)})
    if problems:
        sys.exit(1)
