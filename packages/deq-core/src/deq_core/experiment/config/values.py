"""Configurations as plain values, for files, digests and trackers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

Scalar = str | int | float | bool


def plain(config: object) -> Any:
    """`config` as JSON values: dataclasses become mappings, tuples lists, paths strings."""
    if is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, str | int | float | bool | None):
        return config
    if isinstance(config, Sequence):
        return [plain(value) for value in config]
    if isinstance(config, Path):
        return str(config)
    if callable(config) and hasattr(config, "__name__"):
        return config.__name__
    raise TypeError(
        f"a configuration holds dataclasses, mappings, sequences, numbers, strings and paths, got {config!r}"
    )


def flatten(config: object) -> dict[str, Scalar]:
    """The leaves of the dataclass or mapping `config` by dotted path: `{"optim.lr": 1e-3}`.

    A list of scalars and an empty mapping are one leaf each, written as JSON. None is written "none".
    """
    leaves: dict[str, Scalar] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, dict) and value:
            for key, item in value.items():
                visit(f"{prefix}.{key}", item)
        elif isinstance(value, dict | list):
            leaves[prefix] = json.dumps(value)
        else:
            leaves[prefix] = "none" if value is None else value

    for name, part in plain(config).items():
        visit(name, part)
    return leaves
