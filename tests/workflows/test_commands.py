"""Names are data: what params.yaml holds is part of paths and arguments, and never of what a shell reads."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.profiles import PROFILES
from tests.workflows.checkout import ROOT, run, set_parameters

from deq_core.experiment.config import ConfigError, Name
from deq_core.experiment.config import load as load_section
from workflows import profile
from workflows.engines import commands, parameters

HOSTILE = [
    *("$(touch pwned)", "`touch pwned`", "a>pwned", "a;touch pwned", "a|touch pwned", "a&touch pwned", "${IFS}"),
    *("a b", "a\tb", "a\nb", "a\n", "a'b", 'a"b', "a\\b", "a/b", "../a", "..", ".", "", "-a", "--help", ".a", "a.b"),
    *("a@b", "a*", "a?", "a{b}", "a%b", "a:b", "a=b", "a,b", "~", "#a", "é", "名", "a\0b"),
]  # fmt: skip
PLAIN = ["a", "A-1", "byte-pairs_deq", "0", "_", "deq2-"]
RESOLVE = """
import json, sys
from dvc.parsing import DataResolver
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml

resolver = DataResolver(Repo(), ".", load_yaml("dvc.yaml"))
print(json.dumps({name: resolver.resolve_one(name)[name]["cmd"] for name in resolver.get_keys()}))
"""


def renamed(value: object, old: str, new: str) -> object:
    """`value` with a name in place of another, among keys and items."""
    if isinstance(value, dict):
        return {(new if key == old else key): renamed(inner, old, new) for key, inner in value.items()}
    return [renamed(inner, old, new) for inner in value] if isinstance(value, list) else new if value == old else value


@cache
def text_of_mini() -> str:
    return json.dumps(profile.profile("mini"))


def mini() -> dict[str, Any]:
    """The profile of that name."""
    return json.loads(text_of_mini())


def written(folder: Path, numbers: object) -> Path:
    """A params.yaml with these numbers."""
    path = folder / "params.yaml"
    path.write_text(json.dumps(numbers))
    return path


@pytest.fixture
def mistaken(checkout: Path) -> Iterator[Path]:
    """The checkout with one of its methods called by a name that a shell would run, and other mistakes."""
    numbers = mini()
    numbers["sequence"] = renamed(numbers["sequence"], "characters-deq", "$(touch pwned)")
    numbers["flow"]["train"]["deq"] |= {"stepz": 5, "steps": "many"}
    written(checkout, numbers)
    (checkout / "data/sequence").mkdir(parents=True)
    yield checkout
    shutil.rmtree(checkout / "data")


@pytest.mark.parametrize("name", PROFILES)
def test_a_stage_fills_in_its_command_as_dvc_fills_in_its_paths(
    name: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_parameters(checkout, {}, name=name)
    stages = checkout / "dvc.yaml"
    text = stages.read_text()
    try:
        stages.write_text(commands.PLACE.sub(lambda place: f"${place[0]}", text.replace("${", "{")))
        by_dvc = json.loads(run(checkout, sys.executable, "-W", "ignore", "-c", RESOLVE).stdout.splitlines()[-1])
        stages.write_text(text)
        monkeypatch.chdir(checkout)
        known = parameters.load()
        monkeypatch.setattr(parameters, "load", lambda: known)
        definitions = commands.definitions()
        monkeypatch.setattr(commands, "definitions", lambda: definitions)
        for stage, command in by_dvc.items():
            definition = definitions[stage.partition("@")[0]]
            template = definition.get("do", definition)["cmd"].split()
            assert commands.filled(template, stage) == command.split(), stage
    finally:
        stages.write_text(text)
    assert len(by_dvc) > 40


def test_no_value_is_part_of_a_command_that_a_shell_reads() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = [stage.get("do", stage)["cmd"] for stage in stages.values()]
    assert [one for one in commands if "$" in one or not one.startswith("exec python -m workflows.stage ")] == []
    rules = (ROOT / "Snakefile").read_text()
    shells = re.findall(r'shell:\n +"(.*)"$', rules, re.MULTILINE)
    assert 0 < len(shells) == rules.count("shell:")
    assert [shell for shell in shells for place in re.findall(r"\{(.*?)\}", shell) if not place.endswith(":q")] == []


def test_what_is_no_plain_name_is_refused_wherever_a_name_stands(tmp_path: Path) -> None:
    numbers = mini()
    old = {"flow": "deq", "vision": "street", "sequence": "characters-deq", "delta": "deq"}
    for section, name in old.items():
        numbers[section] = renamed(numbers[section], name, "$(touch pwned)")
    numbers["sequence"]["methods"] = [*HOSTILE, *PLAIN]
    params = written(tmp_path, numbers)
    with pytest.raises(parameters.ParameterError) as caught:
        parameters.load(params)
    lines = str(caught.value).splitlines()
    for place in ("flow.methods", "flow.train", "vision.trained", "sequence.train", "delta.methods", "delta.sweep"):
        assert f"{params}: {place}: {parameters.RULE}, got '$(touch pwned)'" in lines
    of_methods = [line for line in lines if line.startswith(f"{params}: sequence.methods: ")]
    assert sorted(of_methods) == sorted(
        f"{params}: sequence.methods: {parameters.RULE}, got {name!r}" for name in HOSTILE
    )
    with pytest.raises(ConfigError) as refused:
        load_section(tuple[Name, ...], params, "sequence.methods")
    said = [f"{params}: sequence.methods.{n}: {parameters.RULE}, got {name!r}" for n, name in enumerate(HOSTILE)]
    assert str(refused.value).splitlines() == said


@pytest.mark.parametrize("place", ["flow.seeds", "sequence.seeds", "delta.method_seeds"])
def test_a_seed_has_no_sign(place: str, tmp_path: Path) -> None:
    numbers = mini()
    section, key = place.split(".")
    numbers[section][key] = [-1]
    with pytest.raises(parameters.ParameterError, match=rf"{place}\.0: -1 is less than the minimum of 0"):
        parameters.load(written(tmp_path, numbers))


@pytest.mark.parametrize(
    "command",
    [
        ("snakemake", "--cores", "1", "results/sequence/train/$(touch pwned)-0/model.safetensors"),
        ("dvc", "repro", "sequence_train@$(touch pwned)-0"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_both_engines_stop_at_mistakes_before_any_work_and_run_no_name(
    command: tuple[str, ...], mistaken: Path
) -> None:
    process = run(mistaken, *command, check=False)
    assert process.returncode != 0
    assert list(mistaken.rglob("pwned*")) == list((mistaken / "data/sequence").iterdir()) == []
    for said in (
        f"sequence.methods: {parameters.RULE}, got '$(touch pwned)'",
        "flow.train.deq.stepz: unknown key; known here: ",
        "flow.train.deq.steps: expected an integer, got the text 'many'",
    ):
        assert f"params.yaml: {said}" in process.stdout
    assert "Traceback" not in process.stdout
