"""Scalars mean what YAML 1.2 says, which is what DVC reads."""

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from deq_core.experiment.config import document

SCALARS = {
    "1e-3": 1e-3,
    "1e3": 1e3,
    "-1.5E+2": -150.0,
    ".5": 0.5,
    "3.": 3.0,
    "7": 7,
    "-7": -7,
    "+7": 7,
    "0x1f": 31,
    ".inf": math.inf,
    "-.inf": -math.inf,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "no": "no",
    "on": "on",
    "1:30": "1:30",
    "1_000": 1000,
    "2020-01-01": date(2020, 1, 1),
    "e3": "e3",
    "'1e-3'": "1e-3",
}


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "document.yaml"
    path.write_text(text)
    return document.read(path)


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_a_scalar_has_its_type(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\na: 2\n", "not valid YAML: .*duplicate key"),
        ("a: &x [*x]\n", "line 1: a mapping or list contains itself"),
        ("a: &x {b: {c: *x}}\n", "line 1: a mapping or list contains itself"),
        ("a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]\n" for n in range(1, 9)), "come to more"),
        ("a: &a {b: 1}\nc: {<<: [*a, *a]}\n", "line 2: << takes one mapping"),
        ("[" * 3000, "expected at most 64 levels"),
        ("- " * 3000 + "1", "expected at most 64 levels"),
        ("key: !!python/object/apply:os.getcwd []\n", "not valid YAML: .*could not determine a constructor"),
        ("a: !!int x\n", "not valid YAML: invalid literal"),
        ("a: !!bool maybe\n", "not valid YAML"),
        ("a: !!binary 'é'\n", "not valid YAML"),
        ("a: 2020-99-99\n", "not valid YAML: month must be"),
        ("a: [1\n", "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_what_is_no_document_or_too_much_of_one_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(document.DocumentError, match=complaint):
        read(tmp_path, text)


def test_an_anchor_is_taken_in_and_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    assert read(tmp_path, "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nsame: *base\n") == {
        "base": {"a": 1, "b": 2},
        "more": {"a": 1, "b": 3},
        "same": {"a": 1, "b": 2},
    }
