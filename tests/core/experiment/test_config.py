"""A configuration either fits its dataclass to the letter or every misfit is named."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest

from deq_core.experiment import config
from deq_core.experiment.config import ConfigError, Kind, Name, Names, Once, Seeds
from deq_core.experiment.config.delta import Rule


@dataclass(frozen=True)
class Secant:
    memory: int = 12
    kind: Literal["secant"] = field(default="secant", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"memory: expected at least 1, got {self.memory}")


@dataclass(frozen=True)
class Picard:
    damping: float = 0.0
    kind: Literal["picard"] = field(default="picard", repr=False, kw_only=True)


Solver = Annotated[Secant | Picard, Kind]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    rate: float
    steps: int = 10
    solver: Solver = field(default_factory=Secant)
    record: tuple[int, ...] = ()
    betas: tuple[float, float] = (0.9, 0.99)
    tolerance: float | None = None
    schedule: Literal["cosine", "constant"] = "constant"
    folder: Path = Path("data")
    named: dict[str, Solver] = field(default_factory=dict)
    quick: bool = False


def read(tmp_path: Path, text: str, section: str = "run.train", kind: Any = Recipe) -> Any:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return config.load(kind, path, section)


def complaints(tmp_path: Path, body: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"run: {{train: {{{body}}}}}")
    prefix = f"{tmp_path}/params.yaml: "
    lines = str(caught.value).splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_a_section_becomes_the_dataclass(tmp_path: Path) -> None:
    text = """
    run:
      train:
        rate: 1e-3
        record: [4, 8]
        betas: [0, 0.5]
        solver: {kind: picard, damping: 1}
        folder: a/b
        steps: 3
        named: {slow: {kind: secant, memory: 2}}
    """
    assert read(tmp_path, text) == Recipe(
        rate=1e-3,
        record=(4, 8),
        betas=(0.0, 0.5),
        solver=Picard(damping=1.0),
        folder=Path("a/b"),
        steps=3,
        named={"slow": Secant(memory=2)},
    )


def test_a_union_may_be_read_on_its_own(tmp_path: Path) -> None:
    assert read(tmp_path, "solver: {kind: picard}", "solver", Solver) == Picard()


def test_the_whole_file_is_the_empty_section(tmp_path: Path) -> None:
    assert read(tmp_path, '{"rate": 1}', "") == Recipe(rate=1.0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("steps: 3", "run.train.rate: expected a number, got nothing"),
        ("rate: '1e-3'", 'run.train.rate: expected a valid number, got "1e-3"'),
        ("rate: true", "run.train.rate: expected a valid number, got true"),
        ("rate: .nan", "run.train.rate: expected a finite number, got NaN"),
        ("rate: 1, steps: 3.0", "run.train.steps: expected a valid integer, got 3.0"),
        ("rate: 1, steps: true", "run.train.steps: expected a valid integer, got true"),
        ("rate: 1, steps: null", "run.train.steps: expected a valid integer, got null"),
        ("rate: 1, quick: 1", "run.train.quick: expected a valid boolean, got 1"),
        ("rate: 1, quick: no", 'run.train.quick: expected a valid boolean, got "no"'),
        ("rate: 1, record: [1, x]", 'run.train.record.1: expected a valid integer, got "x"'),
        ("rate: 1, betas: [0.1]", "run.train.betas.1: expected a number, got nothing"),
        ("rate: 1, folder: 3", "run.train.folder: expected a valid string, got 3"),
        (
            "rate: 1, schedule: cosin",
            "run.train.schedule: expected 'cosine' or 'constant', got \"cosin\" (did you mean 'cosine'?)",
        ),
        (
            "rate: 1, stepz: 3",
            "run.train.stepz: expected one of the keys rate, steps, solver, record, betas, tolerance, schedule, "
            "folder, named, quick, got 'stepz' (did you mean 'steps'?)",
        ),
        (
            "rate: 1, solver: {kind: secant, memry: 3}",
            "run.train.solver.memry: expected one of the keys memory, kind, got 'memry' (did you mean 'memory'?)",
        ),
        ("rate: 1, solver: {memory: 3}", "run.train.solver.kind: expected one of picard, secant, got nothing"),
        (
            "rate: 1, solver: {kind: picrad}",
            "run.train.solver.kind: expected one of picard, secant, got 'picrad' (did you mean 'picard'?)",
        ),
        ("rate: 1, solver: {kind: secant, memory: 0}", "run.train.solver: memory: expected at least 1, got 0"),
        (
            "rate: 1, named: {a: {kind: picard, damping: x}}",
            'run.train.named.a.damping: expected a valid number, got "x"',
        ),
    ],
)
def test_a_misfit_is_named_with_what_was_expected(tmp_path: Path, body: str, expected: str) -> None:
    assert complaints(tmp_path, body) == [expected]


def test_every_misfit_is_listed_at_once(tmp_path: Path) -> None:
    found = complaints(tmp_path, "steps: x, solver: {kind: picard, damping: a, dampin: 1}, quick: 3")
    assert [line.split(":")[0] for line in found] == [
        "run.train.rate",
        "run.train.steps",
        "run.train.solver.damping",
        "run.train.solver.dampin",
        "run.train.quick",
    ]


@pytest.mark.parametrize(
    ("text", "section", "expected"),
    [
        ("run: {train: 1}", "run.trian", "no section 'trian' in run; it has train (did you mean 'train'?)"),
        ("run: {train: 1}", "rnu", "no section 'rnu' in the top level; it has run (did you mean 'run'?)"),
        ("run: {train: 1}", "run.train.rate", "no section 'rate' in run.train; it is 1"),
        ("run: [1", "run", "not valid YAML"),
        ("run: {rate: 1, rate: 2}", "run", 'line 1: found duplicate key "rate"'),
    ],
)
def test_a_section_that_is_not_there_is_named(tmp_path: Path, text: str, section: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, section)
    assert expected in str(caught.value)
    assert str(tmp_path / "params.yaml") in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        config.load(Recipe, tmp_path / "nowhere.yaml", "run")


def test_sections_are_remembered_once_and_failed_ones_are_not(tmp_path: Path) -> None:
    for _ in range(2):
        read(tmp_path, "remembered: {rate: 1}", "remembered")
    with pytest.raises(ConfigError):
        read(tmp_path, "failed: {}", "failed")
    assert config.sections_read().count("remembered") == 1
    assert "failed" not in config.sections_read()


@pytest.mark.parametrize(
    "body", ["rate: 1", "rate: 1, record: [1, 2], solver: {kind: picard}", "rate: 1, rat: 1", "{}"]
)
def test_schema_accepts_what_load_accepts(tmp_path: Path, body: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"{{{body}}}" if body != "{}" else body)
    from deq_core.experiment.config import document

    valid = jsonschema.Draft202012Validator(config.schema(Recipe)).is_valid(document.read(path))
    try:
        config.load(Recipe, path)
        loads = True
    except ConfigError:
        loads = False
    assert valid == loads


@pytest.mark.parametrize("name", ["a-b_1", "0", "a.b", "-a", "a b", "", "a\n"])
def test_a_name_is_plain_as_an_item_and_as_a_key_and_the_schema_says_so(tmp_path: Path, name: str) -> None:
    plain = name in ("a-b_1", "0")
    for kind, value in ((tuple[Name, ...], [name]), (dict[Name, int], {name: 1})):
        text = json.dumps({"run": {"train": value}})
        validator = jsonschema.Draft202012Validator(config.schema(kind))
        assert validator.is_valid(value) == plain
        if plain:
            read(tmp_path, text, kind=kind)
            continue
        with pytest.raises(ConfigError, match="a name is letters, digits, '-' and '_'"):
            read(tmp_path, text, kind=kind)


@pytest.mark.parametrize(
    ("kind", "once", "twice"),
    [(Seeds, [1, 0], [0, 1, 0]), (Names, ["b", "a"], ["a", "a"]), (Once[float], [0.1, 0.0], [0.5, 0.1, 0.5])],
)
def test_what_means_are_taken_over_is_there_once_and_the_schema_says_so(
    tmp_path: Path, kind: Any, once: list[Any], twice: list[Any]
) -> None:
    assert read(tmp_path, json.dumps({"run": {"train": once}}), kind=kind) == tuple(once)
    with pytest.raises(ConfigError, match=rf"run\.train: expected each once, got {twice[0]} more than once"):
        read(tmp_path, json.dumps({"run": {"train": twice}}), kind=kind)
    validator = jsonschema.Draft202012Validator(config.schema(kind))
    assert validator.is_valid(once)
    assert not validator.is_valid(twice)


def test_a_threshold_that_is_there_twice_is_refused_where_a_rule_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.train\.thresholds: expected each once, got 0\.1 more than once"):
        read(tmp_path, '{"run": {"train": {"thresholds": [0.1, 0.1]}}}', kind=Rule)


@pytest.mark.parametrize(("seed", "said"), [(-1, "greater than or equal to 0"), (2**32, "less than 4294967296")])
def test_a_seed_is_of_the_bits_that_random_numbers_are_made_of(tmp_path: Path, seed: int, said: str) -> None:
    assert read(tmp_path, '{"run": {"train": [4294967295]}}', kind=Seeds) == (2**32 - 1,)
    with pytest.raises(ConfigError, match=rf"run\.train\.0: expected {said}, got {seed}"):
        read(tmp_path, f'{{"run": {{"train": [{seed}]}}}}', kind=Seeds)


def test_schema_forbids_unknown_keys_at_every_level() -> None:
    def objects(node: Any) -> list[dict[str, Any]]:
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        own = [node] if isinstance(node, dict) and "properties" in node and "type" in node else []
        return [*own, *(found for child in children for found in objects(child))]

    found = objects(config.schema(Recipe))
    assert {node["title"] for node in found} == {"Recipe", "Secant", "Picard"}
    assert all(node["additionalProperties"] is False for node in found)


def test_flatten_gives_every_leaf_under_its_path() -> None:
    recipe = Recipe(rate=1e-3, record=(4, 8), named={"a.b": Picard(0.5)})
    assert config.flatten({"train": recipe, "rest": [Secant(3), 1]}) == {
        "train.rate": 1e-3,
        "train.steps": 10,
        "train.solver.memory": 12,
        "train.solver.kind": "secant",
        "train.record": "[4, 8]",
        "train.betas": "[0.9, 0.99]",
        "train.tolerance": "none",
        "train.schedule": "constant",
        "train.folder": "data",
        "train.named.a.b.damping": 0.5,
        "train.named.a.b.kind": "picard",
        "train.quick": False,
        "rest.0.memory": 3,
        "rest.0.kind": "secant",
        "rest.1": 1,
    }


def test_an_empty_configuration_has_no_leaf() -> None:
    assert config.flatten({}) == {}
    assert config.flatten({"a": {}, "b": []}) == {"a": "{}", "b": "[]"}


def test_what_plain_writes_load_reads_back(tmp_path: Path) -> None:
    recipe = Recipe(rate=1e-5, record=(4,), solver=Picard(0.25), named={"a": Secant(2)}, tolerance=1e-12)
    assert read(tmp_path, json.dumps(config.plain(recipe)), "") == recipe


def test_plain_refuses_what_is_no_configuration() -> None:
    with pytest.raises(TypeError, match="got <object"):
        config.plain({"a": object()})
