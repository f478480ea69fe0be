"""params.yaml is one profile, of which each value can be set alone; the command keeps a person's edits."""

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML
from tests.profiles import PROFILES, ROOT, written

from workflows.engines import parameters, workspace
from workflows.profile import main

KEY = re.compile(r"[A-Za-z_][\w-]*|\d+")
"""What DVC's --set-param takes as a part of a dotted key; other names stand in braces in the value."""
SAMPLE = None if os.environ.get("DEQ_EVERY_PARAMETER") else 6


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def leaves(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of a document that is no mapping or list of mappings, by its keys."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*above, str(key)))
    else:
        yield above, value


def another(value: Any) -> Any:
    """A value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value + 0.5
        case str():
            return f"{value}-2"
        case list():
            return value[1:] or [3]
        case _:
            return 3


def override(keys: tuple[str, ...], value: Any) -> str:
    """What sets a value by `dvc exp run --set-param`."""
    plain = next((n for n, key in enumerate(keys) if not KEY.fullmatch(key)), len(keys))
    said = json.dumps(value).replace('"', "")
    for key in reversed(keys[plain:]):
        said = f"{{{key}: {said}}}"
    return f"{'.'.join(keys[:plain])}={said}"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(written("mini"))
    return path


def set_value(path: Path, old: str, new: str, count: int = 1) -> None:
    before = path.read_text()
    assert before.count(old) >= count
    path.write_text(before.replace(old, new, count))


def test_the_committed_parameters_are_the_profile_mini() -> None:
    shown = subprocess.run(["git", "show", "HEAD:./params.yaml"], cwd=ROOT, capture_output=True, text=True).stdout
    made = written("mini")
    assert made in (shown, (ROOT / "params.yaml").read_text()), "run: python -m workflows.profile mini"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_written_out_with_its_values_and_comments(name: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(written(name))
    assert parameters.load(path) == read(PROFILES[name])
    _, numbers = PROFILES[name].read_text().split("\nflow:\n")
    comments = re.findall(r"# .*", numbers)
    assert [path.read_text().count(comment) for comment in comments] == [1] * len(comments)
    assert max(map(len, path.read_text().splitlines())) <= 120


LEAVES = dict(leaves(read(PROFILES["mini"])))


@pytest.mark.parametrize(
    ("keys", "value"),
    random.Random(0).sample([*LEAVES.items()], SAMPLE or len(LEAVES)),
    ids=lambda value: str(value)[:60],
)
def test_a_value_that_is_set_by_dvc_changes_alone(keys: tuple[str, ...], value: Any, params: Path) -> None:
    apply_overrides(params, [override(keys, another(value))])
    assert dict(leaves(read(params))) == LEAVES | {("profile",): "mini", keys: another(value)}


def test_edits_go_with_the_profile_and_come_back(params: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_value(params, "lr: 2e-3", "lr: 1e-3")
    edited = params.read_text()
    assert main([], params) == main(["smoke"], params) == 0
    said = "  flow.train.deq.optim.lr: 0.001 (was 0.002)"
    assert capsys.readouterr().out.splitlines()[:2] == ["mini runs, edited:", said]
    assert params.read_text() == written("smoke").replace("lr: 2e-3", "lr: 1e-3", 1)
    assert main(["mini"], params) == 0
    assert params.read_text() == edited


def test_an_edit_that_has_no_place_leaves_all_as_it_is(params: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_value(params, "siren_delta:", "siren_more:")
    edited = params.read_text()
    assert main(["smoke"], params) == 1
    said = capsys.readouterr().err
    assert "profile smoke has no place for" in said
    assert "delta.representations.siren_delta: nothing (was " in said
    assert params.read_text() == edited
    assert main(["smoke", "--discard-edits"], params) == 0
    said = capsys.readouterr().out
    assert "thrown away" in said
    assert "delta.representations.siren_delta" in said
    assert f"{params} as it was is kept in {params}.old" in said
    assert params.read_text() == written("smoke")
    assert Path(f"{params}.old").read_text() == edited


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("profile: mini", "profile: min", "profile: expected mini or paper or smoke, got 'min'"),
        ("dpi: 150", "dpi: high", "flow.plot.dpi: expected"),
        ("seeds: [0, 1]", "seeds: [0, 1", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_wrong_is_only_replaced_when_that_is_asked_for(
    old: str, new: str, said: str, params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_value(params, old, new)
    wrong = params.read_text()
    for arguments in ([], ["smoke"]):
        assert main(arguments, params) == 1
        assert said in capsys.readouterr().err
        assert params.read_text() == wrong
    for _ in range(2):
        assert main(["smoke", "--discard-edits"], params) == 0
    assert [path.name for path in sorted(params.parent.glob("*params*"))] == ["params.yaml", "params.yaml.old"]
    assert Path(f"{params}.old").read_text() == wrong


def test_comments_of_a_person_s_own_are_kept_beside(params: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_value(params, "steps: 1000", "steps: 1000  # enough")
    commented = params.read_text()
    assert main(["smoke"], params) == 0
    assert Path(f"{params}.old").read_text() == commented


def test_a_profile_that_there_is_not_is_named(params: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["huge"], params) == 1
    assert "expected mini or paper or smoke, got 'huge'" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"profile: mini  # \xff\n"])
def test_a_file_that_is_gone_or_no_text_is_made_anew(content: bytes | None, params: Path) -> None:
    params.unlink()
    if content is not None:
        params.write_bytes(content)
    assert main(["mini"], params) == 1
    assert main(["mini", "--discard-edits"], params) == 0
    assert params.read_text() == written("mini")
    beside = Path(f"{params}.old")
    assert (beside.read_bytes() if beside.exists() else None) == content


def test_a_profile_is_not_changed_under_jobs_that_run(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workspace.ENGINE, "")
    before, held = params.read_bytes(), workspace.claim()
    with pytest.raises(SystemExit, match="is at work in this checkout"):
        main(["smoke"], params)
    assert main([], params) == 0
    os.close(held)
    assert params.read_bytes() == before


def test_to_discard_edits_without_a_name_is_refused(params: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_value(params, "lr: 2e-3", "lr: 1e-3")
    with pytest.raises(SystemExit):
        main(["--discard-edits"], params)
    assert "--discard-edits: name the profile to start from" in capsys.readouterr().err
