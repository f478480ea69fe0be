"""Fills in the command of a stage where no shell reads it.

DVC runs a command in a shell, with each `${place}` replaced by a value of params.yaml. So the commands in dvc.yaml name
their places without the dollar sign, `{item.method}`, `{key}`, `{delta.stage}`, and the stage fills them in behind
the shell, where a value is an argument or part of one.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from workflows import parameters

PLACE = re.compile(r"\{([\w.]+)\}")


class StageError(ValueError):
    """A command's places belong to no stage that dvc.yaml has with the present parameters."""


def filled(command: Sequence[str], stage: str) -> list[str]:
    """`command` with the values of the stage that DVC calls `stage`, from dvc.yaml and params.yaml in this folder.

    Raises:
        parameters.ParameterError: the running profile is not what its schemas ask for, or a name in it is not plain.
        StageError: there is no such stage, or it has no value for a place.
    """
    if not any(map(PLACE.search, command)):
        return list(command)
    if not stage:
        raise StageError(f"{' '.join(command)}: DVC_STAGE is not set; DVC runs this, `dvc repro --single-item STAGE`")
    values = parameters.load()
    values |= case(definitions().get(stage.partition("@")[0], {}), stage, values)
    return [PLACE.sub(lambda place: str(looked_up(place[1], values, stage)), argument) for argument in command]


def definitions(file: Path = Path("dvc.yaml")) -> dict[str, Any]:
    """The stages as dvc.yaml has them, by name."""
    return yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]


def case(definition: Mapping[str, Any], stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What `key` and `item` stand for in the one of the stages made of `definition` that is called `stage`.

    DVC calls a stage of a matrix by its values joined by dashes, a mapping among them by its name and number.
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
