"""Command lines import what the named command needs, and end with a message or a line of JSON."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deq_core.experiment import commands
from deq_core.experiment.config import ConfigError

SOURCE = '''
from deq_core.experiment.commands import finish
from deq_core.experiment.config import ConfigError

def {first}(count: int = 1) -> None:
    """Counts."""
    finish({{"count": count}})

def {second}() -> None:
    """Fails."""
    raise {error}("told you so")
'''
TABLE = {"planted_one": ("count-up", "refuse"), "planted_two": ("other", "stumble")}


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "planted_one.py").write_text(SOURCE.format(first="count_up", second="refuse", error="ConfigError"))
    (tmp_path / "planted_two.py").write_text(SOURCE.format(first="other", second="stumble", error="KeyError"))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in TABLE:
        sys.modules.pop(name, None)


def test_only_the_module_of_the_named_command_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    commands.run("planted", "Tests.", TABLE, arguments=["count-up", "--count", "3"])
    assert json.loads(capsys.readouterr().out) == {"count": 3}
    assert "planted_one" in sys.modules
    assert "planted_two" not in sys.modules


def test_small_numbers_are_printed_as_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    commands.finish({"count": 3, "epe": 1.23456789, "share": 0.00123456, "residual": -4.56789e-8, "none": 0.0})
    told = json.loads(capsys.readouterr().out)
    assert told == {"count": 3, "epe": 1.234568, "share": 0.001235, "residual": -4.568e-8, "none": 0.0}


def test_an_expected_error_ends_with_its_message_alone() -> None:
    with pytest.raises(SystemExit) as ended:
        commands.run("planted", "Tests.", TABLE, arguments=["refuse"])
    assert ended.value.code == "planted: told you so"


@pytest.mark.parametrize(
    "allocation",
    [
        "import torch; torch.empty(1 << 50)",
        "import numpy; numpy.zeros(1 << 48)",
        "import cv2, numpy; cv2.resize(numpy.zeros((9, 9), numpy.uint8), (1 << 22, 1 << 22))",
    ],
)
def test_memory_that_does_not_suffice_is_a_sentence(allocation: str, tmp_path: Path) -> None:
    (tmp_path / "planted_one.py").write_text(f"def grow() -> None:\n    {allocation}\n")
    with pytest.raises(SystemExit, match=r"planted: out of memory: take fewer samples at once, .*trainings resume"):
        commands.run("planted", "Tests.", {"planted_one": ("grow",)}, arguments=["grow"])


def test_a_path_that_the_system_does_not_let_one_look_at_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "planted_one.py").write_text(
        "from pathlib import Path\ndef look(source: Path) -> None:\n    source.is_dir()\n"
    )
    with pytest.raises(SystemExit, match=r"^planted: x{300}: File name too long; choose a shorter name, or name"):
        commands.run("planted", "Tests.", {"planted_one": ("look",)}, arguments=["look", "--source", 300 * "x"])


def test_a_name_that_is_no_utf_8_can_be_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "planted_one.py").write_text(
        "from pathlib import Path\ndef tell(source: Path) -> None:\n    print(source)\n"
    )
    arguments = ["tell", "--source", os.fsdecode(b"caf\xe9")]
    commands.run("planted", "Tests.", {"planted_one": ("tell",)}, arguments=arguments)
    assert capsys.readouterr().out == "caf\\udce9\n"


def test_an_unknown_command_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = {"planted_one": ("count-up", "refuse")}
    with pytest.raises(SystemExit) as ended:
        commands.run("planted", "Tests.", table, arguments=["nonsense"])
    assert ended.value.code == 2
    assert "count-up, refuse" in capsys.readouterr().err


def test_a_fingerprint_changes_with_parameters_and_files_and_with_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("1")
    first = commands.fingerprint({"steps": 2}, data, package="planted_one")
    assert commands.fingerprint({"steps": 2}, data, package="planted_one") == first
    assert commands.fingerprint({"steps": 3}, data, package="planted_one") != first
    data.write_text("2")
    assert commands.fingerprint({"steps": 2}, data, package="planted_one") != first


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("seed", "-1", "expected greater than or equal to 0, got -1"),
        ("seed", str(2**32), "expected less than 4294967296, got 4294967296"),
        ("name", "a/b", "a name is letters, digits, '-' and '_' (no '-' first), got 'a/b'"),
    ],
)
def test_an_option_is_what_its_type_says_as_a_parameter_is(
    option: str, value: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "planted_one.py").write_text(
        "from deq_core.experiment.config import Name, Seed\n"
        "def train(seed: Seed = 0, name: Name = 'a') -> None:\n    raise KeyError\n"
    )
    with pytest.raises(SystemExit, match=re.escape(f"planted: options: --{option}: {complaint}")):
        commands.run("planted", "Tests.", {"planted_one": ("train",)}, arguments=["train", f"--{option}", value])


def test_a_defect_shows_its_traceback() -> None:
    with pytest.raises(KeyError, match="told you so"):
        commands.run("planted", "Tests.", TABLE, arguments=["stumble"])


def test_a_finished_training_removes_what_it_is_known_to_have_left_and_nothing_else(tmp_path: Path) -> None:
    digest, earlier, shared, running = "0123456789abcdef", "fedcba9876543210", "00000000ffffffff", "f" * 16
    others = ["train-deq-0-backup", f"train-deq-0-1-{earlier}", "train-deq-0", f"train-deq-0-{earlier}-mine"]
    for name in (f"train-deq-0-{earlier}", f"train-deq-0-{shared}", f"train-deq-0-{running}", *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.pt").touch()
        (tmp_path / name / "out").write_text("other" if running in name else "model")
    (tmp_path / f"train-deq-0-{shared}" / "mine").touch()
    with commands.resumable(tmp_path, "train-deq-0", digest, out=tmp_path / "model") as folder:
        (folder / "training.pt").touch()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("train-deq-0*/*")}
    others.append(f"train-deq-0-{running}")
    kept = {f"{name}/{file}" for name in others for file in ("out", "training.pt")}
    assert left == kept | {f"train-deq-0-{shared}/mine"}, "a training with another --out may still go on"
    assert not folder.exists()


def test_of_two_equal_trainings_with_different_outputs_each_has_its_own_checkpoint(tmp_path: Path) -> None:
    with commands.resumable(tmp_path, "train-a-1", "1" * 16, out=tmp_path / "slow") as slow:
        (slow / "training.pt").write_text("slow")
        with commands.resumable(tmp_path, "train-a-1", "1" * 16, out=tmp_path / "fast") as fast:
            assert not (fast / "training.pt").exists()
        assert (slow / "training.pt").read_text() == "slow"


def test_a_copy_of_an_unfinished_training_resumes(tmp_path: Path) -> None:
    def place(root: Path) -> Path:
        with commands.resumable(root / "scratch", "train-a-1", "1" * 16, out=root / "out") as folder:
            return folder.relative_to(root)

    assert place(tmp_path / "here") == place(tmp_path / "copy")


def test_what_a_training_depends_on_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"manifest.json: no such file; name the folder that an earlier command wrote"
    ):
        commands.fingerprint({}, tmp_path / "manifest.json", package="deq_core")


def test_what_cannot_be_removed_after_a_training_is_a_warning(tmp_path: Path) -> None:
    def train() -> None:
        with commands.resumable(tmp_path, "train-a-1", "1" * 16, out=tmp_path / "a") as folder:
            (folder / "training.pt").mkdir()

    with pytest.warns(UserWarning, match="train-a-1-[0-9a-f]{16} is not needed any more, but stays: Is a directory"):
        train()
