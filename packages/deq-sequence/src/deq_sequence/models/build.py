"""Builds networks by name."""

from dataclasses import fields, replace
from typing import Any

from deq_sequence.config import VARIANTS, Architecture, Equilibrium
from deq_sequence.models.transformer import DEQTransformer

NAMES = tuple(VARIANTS)
"""Names that `build` accepts."""


def build(name: str, **overrides: Any) -> DEQTransformer:
    """Returns a freshly initialised network; `name` is one of `NAMES`.

    overrides are fields of `Architecture` (vocabulary=1000, norm="pre") and of `Equilibrium` (solver, stop, eval_stop,
    adjoint, memory, steps, on_failure). `steps=12` gives the weight-tied transformer of that depth and the same size.
    Raises ValueError for an unknown name or override.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(NAMES)}")
    size, equilibrium = VARIANTS[name]
    of_size, of_equilibrium = split(overrides)
    return DEQTransformer(replace(size, **of_size), replace(equilibrium, **of_equilibrium))


def split(overrides: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits `overrides` into the fields of `Architecture` and those of `Equilibrium`.

    A stop without an eval_stop applies in training and evaluation.
    """
    overrides = {"eval_stop": None, **overrides} if "stop" in overrides else overrides
    of_size, of_equilibrium = ({field.name for field in fields(kind)} for kind in (Architecture, Equilibrium))
    if unknown := sorted(overrides.keys() - of_size - of_equilibrium):
        raise ValueError(f"no option {', '.join(unknown)}; there are {', '.join(sorted(of_size | of_equilibrium))}")
    return (
        {key: value for key, value in overrides.items() if key in of_size},
        {key: value for key, value in overrides.items() if key in of_equilibrium},
    )
