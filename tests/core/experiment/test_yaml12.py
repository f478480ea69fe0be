"""Scalars mean what YAML 1.2 says, which is what DVC reads."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from deq_core.experiment.config import yaml12

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
    "1_000": "1_000",
    "2020-01-01": "2020-01-01",
    "e3": "e3",
    "'1e-3'": "1e-3",
}


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "document.yaml"
    path.write_text(text)
    return yaml12.read(path)


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_a_scalar_has_its_type(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [text for text in SCALARS if text not in ("2020-01-01", "1_000")])
def test_dvc_reads_the_same(tmp_path: Path, text: str) -> None:
    document = f"key: {text}\n"
    assert read(tmp_path, document) == YAML(typ="safe", pure=True).load(document)


def test_a_merged_key_may_be_overridden_but_not_given_twice(tmp_path: Path) -> None:
    base = "base: &base {a: 1, b: 2}\n"
    assert read(tmp_path, base + "more: {<<: *base, b: 3}\n")["more"] == {"a": 1, "b": 3}
    with pytest.raises(yaml.YAMLError, match="'b' is given twice"):
        read(tmp_path, base + "more: {<<: *base, b: 3, b: 4}\n")


def test_a_tag_that_runs_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError):
        read(tmp_path, "key: !!python/object/apply:os.getcwd []\n")
