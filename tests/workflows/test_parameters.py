"""A mistake in params.yaml is said with the file, the key and what was expected."""

import importlib
import json
import math
from pathlib import Path

import pytest
from tests.workflows.checkout import ROOT

from workflows.engines.parameters import ParameterError, load

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["steps", "optim"],
    "properties": {
        "steps": {"type": "integer"},
        "cache": {"type": "boolean"},
        "clip": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "optim": {"$ref": "#/$defs/Optim"},
        "solver": {"oneOf": [{"$ref": "#/$defs/Anderson"}, {"$ref": "#/$defs/Broyden"}]},
        "seeds": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    },
    "$defs": {
        "Optim": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"name": {"enum": ["adamw", "sgd"]}, "lr": {"type": "number"}},
        },
        "Anderson": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"kind": {"const": "anderson"}, "window": {"type": "integer"}},
        },
        "Broyden": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"kind": {"const": "broyden"}, "memory": {"type": "integer"}},
        },
    },
}
GOOD = {"steps": 3, "optim": {"name": "sgd", "lr": 1}, "clip": None, "solver": {"kind": "broyden", "memory": 4}}
MISTAKES = [
    ({"stepz": 3}, ["flow.stepz: unknown key; known here: steps, cache, clip, optim, solver, seeds"]),
    ({"steps": "3"}, ["flow.steps: expected an integer, got the text '3'"]),
    ({"steps": True}, ["flow.steps: expected an integer, got true"]),
    ({"steps": 3.5}, ["flow.steps: expected an integer, got 3.5"]),
    ({"steps": 3.0}, ["flow.steps: expected an integer, got 3.0"]),
    ({"clip": math.nan}, ["flow.clip: expected a number or null, got nan"]),
    ({"optim": {"lr": -math.inf}}, ["flow.optim.lr: expected a number, got -inf"]),
    ({"seeds": [1, 0, 1]}, ["flow.seeds: expected each once, got [1, 0, 1]"]),
    ({"cache": None}, ["flow.cache: expected true or false, got nothing"]),
    ({"clip": "no"}, ["flow.clip: expected a number or null, got the text 'no'"]),
    ({"optim": {"lr": [1]}}, ["flow.optim.lr: expected a number, got [1]"]),
    ({"optim": {"name": "adam"}}, ["flow.optim.name: expected 'adamw' or 'sgd', got the text 'adam'"]),
    ({"seeds": [0, "1"]}, ["flow.seeds.1: expected an integer, got the text '1'"]),
    ({"seeds": {"a": 0}}, ["flow.seeds: expected a list, got a mapping with a"]),
    ({"solver": {"kind": "newton"}}, ["flow.solver.kind: expected 'anderson' or 'broyden', got the text 'newton'"]),
    ({"solver": "anderson"}, ["flow.solver: expected a mapping, got the text 'anderson'"]),
    (
        {"solver": {"kind": "broyden", "window": 3}},
        ["flow.solver.window: unknown key; known here: kind, memory"],
    ),
    (
        {"steps": "x", "optim": {"lr": "y"}},
        [
            "flow.optim.lr: expected a number, got the text 'y'",
            "flow.steps: expected an integer, got the text 'x'",
        ],
    ),
]


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    folder = tmp_path / "schemas"
    folder.mkdir()
    (folder / "flow.json").write_text(json.dumps(SCHEMA))
    return folder


def written(folder: Path, document: object) -> Path:
    path = folder / "params.yaml"
    text = json.dumps(document)  # JSON is YAML, but for these
    path.write_text(text.replace("NaN", ".nan").replace("Infinity", ".inf"))
    return path


def test_a_profile_that_agrees_with_its_schema_is_returned(tmp_path: Path, schemas: Path) -> None:
    assert load(written(tmp_path, {"profile": "mini", "flow": GOOD}), schemas) == {"flow": GOOD}


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, schemas: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("{profile: mini, flow: {steps: 3, optim: {lr: 1e-3}}}\n")
    assert load(path, schemas)["flow"]["optim"]["lr"] == 0.001


@pytest.mark.parametrize(("change", "sentences"), MISTAKES, ids=[sentences[0] for _, sentences in MISTAKES])
def test_each_bad_key_gets_a_sentence(change: dict, sentences: list[str], tmp_path: Path, schemas: Path) -> None:
    path = written(tmp_path, {"profile": "mini", "flow": {**GOOD, **change}})
    with pytest.raises(ParameterError) as caught:
        load(path, schemas)
    assert str(caught.value).splitlines() == [f"{path}: {sentence}" for sentence in sentences]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"profile": "mini", "flow": {"optim": {}}}, "flow.steps: missing"),
        ({"profile": "mini"}, "flow: missing"),
        ({"profile": "mini", "flow": GOOD, "flwo": GOOD}, "flwo: unknown key; known here: profile, flow"),
        ({"flow": GOOD}, "profile: expected a name, got nothing"),
        ({"profile": 3, "flow": GOOD}, "profile: expected a name, got 3"),
        ([GOOD], f"expected a mapping, got {[GOOD]}"),
    ],
)
def test_a_missing_or_unknown_part_is_named(document: object, sentence: str, tmp_path: Path, schemas: Path) -> None:
    path = written(tmp_path, document)
    with pytest.raises(ParameterError) as caught:
        load(path, schemas)
    assert str(caught.value) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        pytest.param(b"flow: [\n", "line 2", id="no YAML"),
        pytest.param("flow: 1\n".encode("utf-16"), "position 0", id="UTF-16, which DVC and the commands do not read"),
    ],
)
def test_a_file_that_is_no_yaml_is_named_with_the_place(
    content: bytes, place: str, tmp_path: Path, schemas: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=rf"params\.yaml: cannot be read as YAML: (?s:.)*{place}"):
        load(path, schemas)


@pytest.mark.parametrize("domain", ["flow", "sequence", "vision"])
def test_the_schema_of_a_section_is_what_its_package_writes(domain: str, tmp_path: Path) -> None:
    studies = importlib.import_module(f"deq_{domain}.commands.study").STUDIES
    for section in studies.sections:
        studies.schema(section, tmp_path / "schema.json")
        committed = ROOT / "workflows" / "schemas" / f"{section}.json"
        made = f"run: deq-{domain} schema {section} {committed}"
        assert (tmp_path / "schema.json").read_text() == committed.read_text(), made
        (tmp_path / "schema.json").unlink()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a {b: 1}\nflow: *a\n", r"line 2: expected the value itself, got the alias \*a"),
        ("a: &a {b: 1}\nflow: {<<: *a}\n", r"line 2: expected the value itself, got the alias \*a"),
        ("flow: &a\n  steps: *a\n", r"line 2: expected the value itself"),
        ("flow: {steps: !!int no}", ""),
        (f"flow: {'9' * 5000}", ""),
        ("\0", ""),
    ],
)
def test_a_document_that_dvc_would_change_elsewhere_or_not_read_is_refused(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=rf"params\.yaml: cannot be read as YAML: {said}"):
        load(path)
