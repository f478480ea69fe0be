"""Networks by name."""

from dataclasses import fields, replace
from typing import Any

from deq_flow.config import MINI_EQUILIBRIUM, SIZES, Architecture, Equilibrium
from deq_flow.models.deq_flow import DEQFlow
from deq_flow.models.raft import RAFT

NAMES = (
    *(f"deq-flow-{size}" for size in SIZES),
    *("raft" if size == "base" else f"raft-{size}" for size in SIZES),
    "gma",
)
"""Every name `build` knows. raft-large and so on are RAFT at DEQ-Flow's sizes, gma is RAFT with global attention."""


def build(name: str, **overrides: Any) -> DEQFlow | RAFT:
    """A freshly initialised network; `name` is one of `NAMES`.

    overrides are fields of `Architecture` (attention="global", head=256, scale=4) and, for deq-flow-*, of `Equilibrium`
    (solver, stop, eval_stop, adjoint, correction, chaining, flow_gradient), for the others steps and eval_steps.
    Raises ValueError for an unknown name or override.
    """
    if name not in NAMES:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(NAMES)}")
    family, _, size = name.rpartition("-") if name not in ("raft", "gma") else (name, "", "base")
    of_size = {field.name for field in fields(Architecture)}
    of_model = {field.name for field in fields(Equilibrium)} if family == "deq-flow" else {"steps", "eval_steps"}
    unknown = sorted(overrides.keys() - of_size - of_model)
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(sorted(of_size | of_model))}")
    architecture = replace(SIZES[size], attention="global") if family == "gma" else SIZES[size]
    architecture = replace(architecture, **{key: overrides[key] for key in overrides.keys() & of_size})
    choices = {key: overrides[key] for key in overrides.keys() & of_model}
    if family == "deq-flow":
        return DEQFlow(architecture, replace(MINI_EQUILIBRIUM if size == "mini" else Equilibrium(), **choices))
    return RAFT(architecture, **({"steps": 6, "eval_steps": 12} if size == "mini" else {}) | choices)
