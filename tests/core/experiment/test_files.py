"""Output appears whole or not at all, and a fault of the disk names the place and the remedy."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deq_core.experiment import files
from deq_core.experiment.files import (
    OutputError,
    output_directory,
    output_file,
    require_writable,
    write_bytes,
    write_json,
    write_text,
)
from deq_core.experiment.outputs.written import RECORD

ALONE = f"""
import sys, types
from pathlib import Path
for name, folder in (("deq_core", ""), ("deq_core.experiment", "{Path(files.__file__).parent}")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from deq_core.experiment.files import *
"""
"""Begins a program that uses the module without the package, whose torch takes seconds to import."""


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the kernel's own fault, for any user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def fill(out: Path, **contents: bytes | Path | Exception) -> None:
    """Writes `out` with these files in it: bytes, the target of a link, or an error that ends the block."""
    with output_directory(out) as partial:
        for name, content in contents.items():
            match content:
                case bytes():
                    (partial / name).write_bytes(content)
                case Path():
                    (partial / name).symlink_to(content)
                    (partial / name).write_bytes(b"x")
                case Exception():
                    raise content


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD)


def test_a_folder_appears_whole_on_success(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with output_directory(out) as partial:
        (partial / "one").write_text("1")
        assert not out.exists()
        identity = partial.stat().st_ino
    assert out.stat().st_ino == identity, "it is to be moved in one go, not copied"
    assert names(out) == ["one"]
    assert names(out.parent) == ["out"]


def test_a_failed_block_leaves_the_folder_before_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, one=b"1")
    with pytest.raises(ZeroDivisionError):
        fill(out, two=b"2", three=ZeroDivisionError())
    assert names(out) == ["one"]
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "with output_directory(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
    )
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", ALONE + script, out], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with output_directory(out):
            assert len(names(tmp_path)) == 2
        process.kill()
    assert len(names(tmp_path)) == 2
    with output_directory(out) as partial:
        (partial / "whole").write_text("x")
    assert names(tmp_path) == ["out"]
    assert names(out) == ["whole"]


def test_what_a_killed_process_left_of_a_file_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_bytes(Path(sys.argv[1]), b'half', durable=True)\n"
    )
    path = tmp_path / "train@deq-0"
    (tmp_path / ".train@deq-0.mine").write_text("")
    assert subprocess.run([sys.executable, "-c", ALONE + script, path]).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    write_bytes(path, b"whole", durable=True)
    assert names(tmp_path) == [".train@deq-0.mine", "train@deq-0"]


def test_a_file_too_large_for_the_disk_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with file_size_limit(4096), pytest.raises(OutputError) as caught:
        write_bytes(path, bytes(100_000))
    assert f"cannot write {path}" in str(caught.value)
    assert "ulimit -f" in str(caught.value)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_fault_inside_a_folder_removes_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with file_size_limit(4096), pytest.raises(OutputError, match=f"cannot write {out}: the file would pass"):
        fill(out, small=b"x", large=bytes(100_000))
    assert names(tmp_path) == []


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="the disk is full: free space") as caught:
        fill(out, full=Path("/dev/full"))
    assert str(out) in str(caught.value)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


MOUNTED = """
full, locked, bound = map(Path, sys.argv[1:])
def fill(out):
    with output_directory(out) as partial:
        (partial / "work").write_text("hours")
write_bytes(full / "file", b"old")
for path, attempt in (
    (full / "file", lambda path: write_bytes(path, bytes(1_000_000))),
    (locked / "file", lambda path: write_bytes(path, b"x")),
    (locked / "out", lambda path: output_directory(path).__enter__()),
    (full, lambda path: require_writable(path, folder=True)),
    (bound, fill),
):
    try:
        attempt(path)
    except OutputError as error:
        print(error)
print((full / "file").read_bytes(), sorted(path.name for path in full.iterdir()))
print([path.read_text() for path in bound.parent.glob("bound.kept-*/work")])
"""


def test_a_small_file_system_a_read_only_one_and_one_that_is_mounted_at_the_output_say_so(tmp_path: Path) -> None:
    full, locked, bound = tmp_path / "full", tmp_path / "locked", tmp_path / "bound"
    for folder in (full, locked, bound):
        folder.mkdir()
    mount = f"mount -t tmpfs -o size=64k none {full} && mount -t tmpfs -o ro none {locked} && mount -B {bound} {bound}"
    unshare = shutil.which("unshare")
    inside = [unshare or "unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if unshare is None or subprocess.run([*inside, mount], capture_output=True).returncode != 0:
        pytest.skip("this kernel lets no ordinary process mount; the faults above are tested without")
    python = f"{sys.executable} -c '{ALONE}{MOUNTED}' {full} {locked} {bound}"
    done = subprocess.run([*inside, f"{mount} && {python}"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"cannot write {full}/file: the disk is full")
    assert lines[1].startswith(f"cannot write {locked}/file: the file system is read-only")
    assert lines[2].startswith(f"cannot write {locked}/out: the file system is read-only")
    assert lines[3].startswith(f"cannot write {full}: something is mounted there, so it cannot be replaced: choose")
    assert lines[4].startswith(f"cannot write {bound}: something is mounted there, or the system uses it: choose a new")
    assert lines[5:] == ["b'old' ['file']", "['hours']"], "what could not be put there stays beside it"


def write_file(out: Path) -> None:
    with output_file(out) as partial:
        partial.write_text("x")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
@pytest.mark.parametrize("write", [write_file, fill])
def test_what_may_have_a_name_can_be_written_by_it(tmp_path: Path, write: Callable[[Path], None], name: str) -> None:
    for _ in range(2):
        write(tmp_path / name)
        assert names(tmp_path) == [name]
    left = files._beside(tmp_path / name, "partial")
    left.with_name(left.name.replace(f"@{os.getpid()}", "@999999999")).mkdir()
    write(tmp_path / "other")
    assert len(names(tmp_path)) == 3
    write(tmp_path / name)
    assert names(tmp_path) == sorted(["other", name]), "what a process has left that is gone"


UNWRITABLE = {
    "file/a/out": "remove that file or choose another folder",
    "/sys/deq-out": "choose another folder",  # the kernel's own: no user may make anything there, root included
    "/proc/no/out": "cannot be made: choose another folder",
    **dict.fromkeys((".", "/", ".."), "choose a new name in it|choose another name"),
}


@pytest.mark.parametrize("write", [fill, write_file, lambda out: write_text(out, "x")])
def test_a_folder_nobody_may_write_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    """Before long work by `require_writable`, and where it is written all the same."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    taken = {"file": "a file is where a folder is needed"} if write == fill else {"folder": "a folder is where a file"}
    for out, remedy in {**UNWRITABLE, **taken}.items():
        for attempt in (lambda out: require_writable(out, folder=write == fill), write):
            with pytest.raises(OutputError, match=rf"^cannot write {re.escape(out)}: .*({remedy})") as caught:
                attempt(Path(out))
            assert "@" not in str(caught.value), "no name of a hidden file"
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("folder", [True, False])
def test_what_can_be_written_leaves_no_trace_of_the_question(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for out in ("new", "a/b/new", "folder" if folder else "file"):
        require_writable(tmp_path / out, folder=folder)
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_fault_of_an_input_passes_unchanged(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("")
    with pytest.raises(NotADirectoryError), output_directory(tmp_path / "out"):
        (tmp_path / "input" / "missing").read_text()
    with pytest.raises(FileNotFoundError), output_directory(tmp_path / "out"):
        (tmp_path / "missing").read_text()
    unnamed = FileNotFoundError(errno.ENOENT, "unable to open file")  # as h5py has it
    with pytest.raises(FileNotFoundError, match="unable to open"), output_directory(tmp_path / "out"):
        raise unnamed


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_durable_write_is_forced_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), fsync(descriptor)))
    write_bytes(tmp_path / "file", b"x", durable=True)
    assert synced == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]


def test_equal_values_give_equal_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1e-3, None]})
    write_json(tmp_path / "b.json", {"a": [1e-3, None], "b": 1})
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [1e-3, None], "b": 1}


def test_json_refuses_what_it_has_no_word_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json: JSON has no NaN"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == []
