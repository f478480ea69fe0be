"""Nothing of the user's is ever removed: a law over every command of the three programs, by their own tables."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from tests.profiles import MINI

import deq_flow.cli
import deq_sequence.cli
import deq_vision.cli
from deq_core.experiment.commands import ADDED, PLACES, Files, Positional, functions
from deq_core.experiment.files import output_directory, output_files
from deq_core.experiment.outputs.written import written_by

PROGRAMS = {"deq-flow": deq_flow.cli, "deq-vision": deq_vision.cli, "deq-sequence": deq_sequence.cli}
COMMANDS: Mapping[str, Callable[..., None]] = {
    f"{program} {command.__name__.replace('_', '-')}": command
    for program, module in PROGRAMS.items()
    for command in functions(module.COMMANDS)
}
HINTS = {name: get_type_hints(command, include_extras=True) for name, command in COMMANDS.items()}
WRITING = [name for name, hints in HINTS.items() if "out" in hints]

READ = {
    "photographs",
    "data",
    "model",
    "names",
    "params",
    "results",
    "root",
    "scratch",
    "start",
    "checkpoint",
    "source",
}
WORDS = {"device", "experiment", "fit", "method", "name", "network", "profile", "prompt", "representation", "section"}
WORDS |= {"alias", "case", "set", "stage", "text", "variant"}
FURTHER = {"raw"}
"""Further outputs, folders that are `output_directory`'s from the start."""


def marks(name: str, key: str) -> Sequence[Any]:
    return getattr(HINTS[name][key], "__metadata__", ())


def files_mark(name: str) -> Files | None:
    return next((one for one in marks(name, "out") if isinstance(one, Files)), None)


REPLACING = [name for name in WRITING if files_mark(name) != ADDED]


def plain_type(name: str, key: str) -> Any:
    return get_type_hints(COMMANDS[name])[key]


def is_place(name: str, key: str) -> bool:
    kind = plain_type(name, key)
    return kind is Path or Path in get_args(kind) or (key in PLACES and get_origin(kind) is not Literal)


def reads(name: str) -> list[str]:
    """The parameters that may name what a command reads."""
    return [key for key in inspect.signature(COMMANDS[name]).parameters if key != "out" and is_place(name, key)]


def call(name: str, **chosen: Path) -> str:
    """Runs a command with some values chosen and others of nothing that is there; what it says where it fails."""
    words, named = [], []
    for key, parameter in inspect.signature(COMMANDS[name]).parameters.items():
        if key not in chosen and key != "params" and parameter.default is not inspect.Parameter.empty:
            continue
        kind = plain_type(name, key)
        value = get_args(kind)[0] if get_origin(kind) is Literal else "1" if kind is int else f"no-{key}"
        value = str(chosen.get(key, value))
        if Positional in marks(name, key):
            words.append(value)
        else:
            named += [f"--{key}", value]
    program, command = name.split()
    try:
        PROGRAMS[program].main([command, *words, *named])
    except SystemExit as ended:
        return str(ended.code)
    return ""


def own(name: str, out: Path) -> Path:
    """Makes `out` what the command wrote earlier; a file of it."""
    mark = files_mark(name)
    with written_by(name):
        return earlier(out) if mark is None else earlier_files(mark.of(out))


def earlier(out: Path) -> Path:
    with output_directory(out) as partial:
        (partial / "made").write_text("earlier")
    return out / "made"


def earlier_files(files: Sequence[Path]) -> Path:
    with output_files(files):
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("earlier")
    return files[0]


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is a new one, without params.yaml: a command that begins does not come far."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_writes_is_called_out_and_the_rest_is_known_to_be_read_or_a_word(name: str) -> None:
    for key in inspect.signature(COMMANDS[name]).parameters:
        kind = plain_type(name, key)
        if key != "out" and (is_place(name, key) or "str" in str(kind).replace("Literal", "")):
            known = READ | FURTHER | set(PLACES) if is_place(name, key) else WORDS
            literal = get_origin(kind) is Literal or any(get_origin(one) is Literal for one in get_args(kind))
            assert key in known or literal, f"{name} --{key}: is it a place that the command reads? See PLACES"


@pytest.mark.parametrize("name", WRITING)
def test_a_file_of_the_users_stays_and_nothing_is_begun(name: str, tmp_path: Path) -> None:
    out, mark = tmp_path / "out", files_mark(name)
    places = [out / "Sintel" / "mine"] if mark in (None, ADDED) else list(mark.of(out))
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("mine")
        before = tree(tmp_path)
        said = call(name, out=out, **({"params": MINI} if mark == ADDED else {}))
        assert "cannot write" in said
        assert "which" in said or "did not write" in said
        assert "choose another" in said
        assert tree(tmp_path) == before
        place.unlink()


@pytest.mark.parametrize("name", REPLACING)
def test_what_the_user_changed_in_an_output_stays(name: str, tmp_path: Path) -> None:
    own(name, tmp_path / "out").write_text("changed")
    before = tree(tmp_path)
    assert f"was changed after `{name}` wrote it" in call(name, out=tmp_path / "out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", REPLACING)
def test_what_a_command_left_is_no_hindrance_to_it(name: str, tmp_path: Path) -> None:
    own(name, tmp_path / "out")
    assert "cannot write" not in call(name, out=tmp_path / "out"), "it goes on, to miss what it reads"


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in REPLACING for key in reads(name)])
def test_no_command_replaces_what_it_reads(name: str, key: str, tmp_path: Path) -> None:
    made = own(name, tmp_path / "out")
    before = tree(tmp_path)
    said = call(name, **{key: tmp_path / "out" if files_mark(name) is None else made, "out": tmp_path / "out"})
    assert "the command reads" in said
    assert f"({key})" in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize("read", ["link", "work/../out", "out/made"])
def test_what_is_read_is_known_by_any_name(read: str, tmp_path: Path) -> None:
    own("deq-flow report", tmp_path / "out")
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "work").mkdir()
    assert "the command reads" in call("deq-flow report", results=Path(read), out=tmp_path / "out")


@pytest.mark.parametrize("out", [".", "..", "../../a", "../b"])
def test_the_working_directory_is_not_replaced(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for place in (Path(out), Path(out).resolve()):
        assert "cannot write" in call("deq-flow report", out=place)
    assert tree(tmp_path / "a") == {"b": ""}
