"""A folder is replaced where it holds the output of the same command, as it was left, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deq_core.experiment.files import (
    OutputError,
    discard,
    output_directory,
    output_file,
    output_files,
    require_own,
    write_text,
)
from deq_core.experiment.outputs.written import RECORD, files_of, written_by


def make(out: Path, command: str = "deq train", **contents: str) -> None:
    """The folder `out`, with these files in it, written by a command."""
    with written_by(command), output_directory(out) as partial:
        for name, content in contents.items():
            write_text(partial / name, content)


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_of(folder)]


def stranger(path: Path) -> None:
    path.write_text("mine")


def change(path: Path) -> None:
    (path.parent / "model").write_text("mine")


def protect(path: Path) -> None:
    (path.parent / "model").chmod(0o444)


def protected_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o555)


STRANGE: list[tuple[Callable[[Path], object], str]] = [
    (stranger, "mine, which `deq train` did not write"),
    (Path.mkdir, "mine, which `deq train` did not write"),
    (protected_folder, "mine, which `deq train` did not write"),
    (lambda path: path.symlink_to("nowhere"), "mine, which `deq train` did not write"),
    (lambda path: path.symlink_to(path.parent), "mine, which `deq train` did not write"),
    (os.mkfifo, "mine, which `deq train` did not write"),
    (change, "model, which was changed after `deq train` wrote it"),
    (protect, "model, which was changed after `deq train` wrote it"),
]


@pytest.mark.parametrize(("add", "says"), STRANGE)
def test_a_folder_with_anything_else_is_refused_before_the_block(
    add: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    make(out, model="1", history="2")
    add(out / "mine")
    before = {path: path.lstat() for path in out.iterdir()}
    with pytest.raises(OutputError) as caught:
        make(out, model="2")
    assert str(caught.value) == f"cannot write {out}: it holds {says}: choose another folder, or move that away"
    assert {path: path.lstat() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_the_users_is_refused_without_reading_it(tmp_path: Path) -> None:
    (tmp_path / "Sintel").mkdir()
    os.mkfifo(tmp_path / "Sintel" / "a")  # whose reader waits for ever
    with pytest.raises(OutputError, match="it holds Sintel/a, which this program did not write"):
        require_own(tmp_path, folder=True)


def test_what_another_command_wrote_is_named(tmp_path: Path) -> None:
    make(tmp_path / "out", model="1")
    with pytest.raises(OutputError, match="it holds model, which `deq train` wrote: choose another folder"):
        make(tmp_path / "out", "deq demo", colour="2")
    with (
        pytest.raises(OutputError, match="it holds model, which `deq train` wrote"),
        output_directory(tmp_path / "out"),
    ):
        pass
    assert names(tmp_path / "out") == ["model"]


def test_a_command_replaces_its_own_output_also_where_a_part_of_it_is_gone(tmp_path: Path) -> None:
    make(tmp_path / "out", model="1", history="1")
    (tmp_path / "out" / "model").unlink()
    make(tmp_path / "out", metrics="2")
    assert names(tmp_path / "out") == ["metrics"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_without_files_are_part_of_an_output(tmp_path: Path) -> None:
    for _ in range(2):
        with output_directory(tmp_path / "out") as partial:
            (partial / "a" / "b").mkdir(parents=True)
    assert (tmp_path / "out" / "a" / "b").is_dir()


@pytest.mark.parametrize("content", ["", "[]", '{"deq train": ["mine"]}', '{"deq train": {"mine": null}}', "\0"])
def test_a_record_that_is_none_vouches_for_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD).write_text(content)
    with pytest.raises(OutputError, match=r"it holds \.deq-written, which `deq train` did not write"):
        make(tmp_path / "out", model="1")
    assert (tmp_path / "out" / RECORD).read_text() == content


def test_equal_outputs_have_equal_records(tmp_path: Path) -> None:
    make(tmp_path / "a", model="1", history="2")
    make(tmp_path / "b", history="2", model="1")
    assert (tmp_path / "a" / RECORD).read_bytes() == (tmp_path / "b" / RECORD).read_bytes()
    (command, files) = next(iter(json.loads((tmp_path / "a" / RECORD).read_text()).items()))
    assert (command, list(files)) == ("deq train", ["history", "model"])


def test_a_folder_made_within_another_has_no_record_of_its_own(tmp_path: Path) -> None:
    with output_directory(tmp_path / "out") as partial:
        make(partial / "part", text="1")
    assert not (tmp_path / "out" / "part" / RECORD).exists()
    with output_directory(tmp_path / "out"):
        pass
    assert names(tmp_path / "out") == []


def test_what_is_not_to_be_replaced_has_no_record_and_is_not(tmp_path: Path) -> None:
    with output_directory(tmp_path / "out", replaceable=False) as partial:
        (partial / "frame").write_text("1")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frame"]
    with pytest.raises(OutputError, match="it holds frame"), output_directory(tmp_path / "out", replaceable=False):
        pass


def test_a_link_stays_and_what_it_leads_to_is_replaced_as_a_folder_is(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out"
    link.symlink_to("disk")
    make(link, model="1")
    make(link, model="2")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "model").read_text() == "2"
    stranger(tmp_path / "disk" / "mine")
    with pytest.raises(OutputError, match="it holds mine"):
        make(link, model="3")
    assert names(tmp_path / "disk") == ["mine", "model"]


@pytest.mark.parametrize("earlier", [True, False])
def test_what_the_user_adds_during_the_work_stays_in_the_folder(earlier: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if earlier:
        make(out, model="1", history="1")
    with written_by("deq train"), output_directory(out) as partial:
        (partial / "model").write_text("2")
        (out / "notes" / "empty").mkdir(parents=True)
        stranger(out / "notes" / "mine")
        (out / "link").symlink_to("notes")
    assert (out / "model").read_text() == "2"
    assert (out / "notes" / "mine").read_text() == "mine"
    assert (out / "notes" / "empty").is_dir()
    assert os.readlink(out / "link") == "notes"
    assert sorted(path.name for path in out.iterdir()) == [RECORD, "link", "model", "notes"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_the_user_changes_during_the_work_stays_beside_the_folder_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    make(out, model="1", history="1")
    with written_by("deq train"), output_directory(out) as partial:
        (partial / "model").write_text("2")
        (out / "model").write_text("mine")
    assert (out / "model").read_text() == "2"
    (kept,) = (path for path in tmp_path.iterdir() if path != out)
    assert names(kept) == ["model"]
    assert (kept / "model").read_text() == "mine"
    assert capsys.readouterr().err == f"what was at {out} is kept as {kept}\n"


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_of_two_runs_of_a_command_at_once_neither_removes_what_the_other_made(
    earlier: bool, asked: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if earlier:
        make(out, model="0")
    with written_by("deq train", asked=out if asked else None), output_directory(out) as partial:
        (partial / "model").write_text("2")
        make(out, model="1")
    assert (out / "model").read_text() == "2"
    (kept,) = (path for path in tmp_path.iterdir() if path != out)
    assert (kept / "model").read_text() == "1"
    assert capsys.readouterr().err == f"what another `deq train` has put at {out} meanwhile is kept as {kept}\n"


def test_a_file_that_the_user_puts_in_the_place_of_the_folder_is_kept(tmp_path: Path) -> None:
    with output_directory(tmp_path / "out") as partial:
        (partial / "model").write_text("2")
        stranger(tmp_path / "out")
    assert sorted(path.read_text() for path in tmp_path.iterdir() if path.is_file()) == ["mine"]
    assert names(tmp_path / "out") == ["model"]


def test_a_command_that_asked_first_does_not_lose_its_work_to_what_came_since(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with written_by("deq train", asked=out):
        require_own(out, folder=True)
        out.mkdir()
        stranger(out / "mine")
        with output_directory(out) as partial:
            (partial / "model").write_text("1")
    assert names(out) == ["mine", "model"]


KILLED = """
import os, signal, sys
from pathlib import Path
from deq_core.experiment import files
from deq_core.experiment.outputs.written import written_by
out, moment = Path(sys.argv[1]), sys.argv[2]
replace = Path.replace
def killed(self, target):
    if moment == "before" and ".partial@" in self.name and target == out:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(self, target)
    if moment == "after" and target == out:
        os.kill(os.getpid(), signal.SIGKILL)
with written_by("deq train"), files.output_directory(out) as partial:
    (partial / "model").write_text("2")
    (out / "mine").write_text("mine")
    Path.replace = killed
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_between_two_renames_loses_nothing(moment: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, model="1")
    done = subprocess.run([sys.executable, "-c", KILLED, out, moment])
    assert done.returncode == -9
    assert out.exists() == (moment == "after")
    make(out, model="3")
    assert (out / "mine").read_text() == "mine"
    assert (out / "model").read_text() == "3"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_between_two_renames_comes_once_the_folder_is_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, replace = tmp_path / "out", Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if ".partial@" in self.name and target == out:
            signal.raise_signal(signal.SIGINT)
        return replace(self, target)

    make(out, model="1")
    monkeypatch.setattr(Path, "replace", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            make(out, model="2")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (out / "model").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_is_replaced_by_the_command_that_wrote_it_alone(tmp_path: Path) -> None:
    out = tmp_path / "seen.mp4"
    for _ in range(2):
        with written_by("deq stream"), output_files([out]):
            out.write_text("1")
    with (
        pytest.raises(OutputError, match="`deq export` did not write the file that is there"),
        written_by("deq export"),
    ):
        output_files([out]).__enter__()
    out.write_text("mine")
    says = "the file there was changed after `deq stream` wrote it: choose another name, or move that file away"
    with pytest.raises(OutputError, match=says), written_by("deq stream"):
        output_files([out]).__enter__()
    assert out.read_text() == "mine"


@pytest.mark.parametrize("target", ["file", "nowhere"])
def test_a_link_in_the_place_of_a_file_is_refused(target: str, tmp_path: Path) -> None:
    stranger(tmp_path / "file")
    out = tmp_path / "out"
    out.symlink_to(target)
    with pytest.raises(OutputError, match="did not write the file that is there"), output_files([out]):
        pass
    assert os.readlink(out) == target


def test_files_beside_those_of_another_command_keep_their_record(tmp_path: Path) -> None:
    for command, name in (("deq convert", "a"), ("deq report", "b"), ("deq convert", "c"), ("deq convert", "a")):
        with written_by(command), output_files([tmp_path / name]):
            (tmp_path / name).write_text(command)
    with written_by("deq report"), output_files([tmp_path / "b"]):
        pass
    with pytest.raises(OutputError), written_by("deq report"), output_files([tmp_path / "c"]):
        pass


def test_a_file_of_the_name_of_the_record_stays(tmp_path: Path) -> None:
    stranger(tmp_path / RECORD)
    with output_files([tmp_path / "a"]):
        stranger(tmp_path / "a")
    assert (tmp_path / RECORD).read_text() == "mine"


def test_a_file_that_came_during_the_work_stays_and_so_does_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seen.mp4"
    with output_file(out) as partial:
        partial.write_text("work")
        stranger(out)
    assert out.read_text() == "mine"
    (kept,) = (path for path in tmp_path.iterdir() if path != out)
    assert kept.read_text() == "work"
    assert kept.suffix == ".mp4"
    assert str(kept) in capsys.readouterr().err


def test_the_rest_of_a_training_goes_and_anything_else_stays(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "training.pt").touch()
    stranger(tmp_path / "b" / "mine")
    for folder in ("a", "b"):
        discard(tmp_path / folder, ("training.pt", "tracking.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert names(tmp_path / "b") == ["mine"]
