"""Command lines import what the named command needs, and end with a message or a line of JSON."""

import json
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


def test_an_expected_error_ends_with_its_message_alone() -> None:
    with pytest.raises(SystemExit) as ended:
        commands.run("planted", "Tests.", TABLE, arguments=["refuse"])
    assert ended.value.code == "planted: told you so"


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


def test_a_defect_shows_its_traceback() -> None:
    with pytest.raises(KeyError, match="told you so"):
        commands.run("planted", "Tests.", TABLE, arguments=["stumble"])


def test_what_a_training_depends_on_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"manifest.json: no such file; name the folder that an earlier command wrote"
    ):
        commands.fingerprint({}, tmp_path / "manifest.json", package="deq_core")
