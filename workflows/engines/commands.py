"""Fills in the placeholders of a stage's command, so that no shell interprets the values.

DVC replaces each `${place}` by a value of params.yaml and runs the result in a shell. So the commands in dvc.yaml have
placeholders without the dollar sign, `{item.method}`, `{key}`, `{delta.stage}`, which the stage fills in behind the
shell, where a value is an argument or part of one.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from workflows.engines import parameters

PLACE = re.compile(r"\{([\w.]+)\}")


class StageError(ValueError):
    """A command has placeholders without a value, or dvc.yaml has no such stage with the current parameters."""


def filled(command: Sequence[str], stage: str) -> list[str]:
    """`command` with the values of `stage`, from dvc.yaml and params.yaml in this folder.

    Raises:
        parameters.ParameterError: params.yaml does not agree with its schemas.
        StageError: there is no such stage, or it has no value for a placeholder.
    """
    if not any(map(PLACE.search, command)):
        return list(command)
    if not stage:
        raise StageError(f"{' '.join(command)}: DVC_STAGE is not set; DVC runs this, `dvc repro --single-item STAGE`")
    values = parameters.load()
    values |= case(definitions().get(stage.partition("@")[0], {}), stage, values)
    return [PLACE.sub(lambda place: str(looked_up(place[1], values, stage)), argument) for argument in command]


def definitions(file: Path = Path("dvc.yaml")) -> dict[str, Any]:
    """The stages of dvc.yaml as written, by name."""
    return yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]


def case(definition: Mapping[str, Any], stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `key` and `item` in the stage `stage` of a matrix.

    DVC names such a stage by its values joined by dashes; a mapping among them is its axis and number.
    """
    _, _, key = stage.partition("@")
    axes = {
        name: [(f"{name}{number}" if isinstance(one, Mapping) else str(one), one) for number, one in enumerate(axis)]
        for name, source in definition.get("matrix", {}).items()
        for axis in [looked_up(source[2:-1], values, stage) if isinstance(source, str) else source]
    }
    for combination in product(*axes.values()):
        if "-".join(called for called, _ in combination) == key:
            return {"key": key, "item": {name: one for name, (_, one) in zip(axes, combination, strict=True)}}
    return {"key": key}


def looked_up(place: str, values: Mapping[str, Any], stage: str) -> Any:
    """The value at dotted keys.

    Raises:
        StageError: there is none.
    """
    value: Any = values
    for key in place.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise StageError(f"{stage}: dvc.yaml has {{{place}}} in its command, and params.yaml no value for it")
        value = value[key]
    return value
