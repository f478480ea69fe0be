"""Networks by name."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Literal

from deq_flow.config import Architecture, Equilibrium, Scales
from deq_flow.models.deq_flow import DEQFlow
from deq_flow.models.raft import RAFT
from deq_flow.sizes import MINI, MINI_EQUILIBRIUM, SIZES

Family = Literal["deq-flow", "raft"]


def _networks() -> Iterator[tuple[str, Family, Architecture]]:
    for size, architecture in SIZES.items():
        yield f"deq-flow-{size}", "deq-flow", architecture
    for size in ("tiny", "base", "large", "huge", "gigantic"):
        yield f"deq-flow-{size}-gma", "deq-flow", replace(SIZES[size], attention="global")
    for size in ("large", "huge", "gigantic"):  # the other sizes have the same head in both versions
        yield f"deq-flow-{size}-v1", "deq-flow", replace(SIZES[size], head=256)
        yield f"deq-flow-{size}-v1-gma", "deq-flow", replace(SIZES[size], head=256, attention="global")
    for size, architecture in SIZES.items():
        yield ("raft" if size == "base" else f"raft-{size}"), "raft", architecture
    yield "gma", "raft", replace(SIZES["base"], attention="global", attention_positions=160)


_NETWORKS: dict[str, tuple[Family, Architecture]] = {
    name: (family, architecture) for name, family, architecture in _networks()
}

NAMES = tuple(_NETWORKS)
"""Names for `build`. -gma has global attention, -v1 the narrower flow head of version 1 (the release's old_version).
raft-large and so on are RAFT at DEQ-Flow's sizes, gma is RAFT with global attention."""

WEIGHTLESS = frozenset({"attention_by", "cell_dropout", "correlation", "dropout", "recompute"})
"""Fields of `Architecture` that do not affect the weights, and so may be changed for trained ones."""

_OF_SIZE = frozenset(field.name for field in fields(Architecture))
_OF_FAMILY: dict[Family, frozenset[str]] = {
    "deq-flow": frozenset(field.name for field in fields(Equilibrium)) | {"scales"},
    "raft": frozenset({"steps", "eval_steps", "scales"}),
}


def is_unrolled(name: str) -> bool:
    """Whether the network of that name is an unrolled RAFT rather than a DEQ."""
    return _NETWORKS[name][0] == "raft"


def build(name: str, **overrides: Any) -> DEQFlow | RAFT:
    """A freshly initialised network; `name` is one of `NAMES`.

    overrides are fields of `Architecture` (attention="global", correlation="on-the-fly", head=256, scale=4), `scales`
    (`config.Scales`, for `inference.Estimator`) and, for deq-flow-*, fields of `Equilibrium` (solver, stop, eval_stop,
    adjoint, correction, ...), for the others steps and eval_steps. `stop` without eval_stop, or `steps` without
    eval_steps, holds for both training and evaluation.

    Raises:
        ValueError: an unknown name, override or value; the message lists the known ones.
        TypeError: `scales`, `solver`, `stop` or `adjoint` is not such an object.
    """
    if name not in NAMES:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(NAMES)}")
    family, architecture = _NETWORKS[name]
    check_overrides(name, overrides, _OF_SIZE | _OF_FAMILY[family])
    return assemble(family, architecture, overrides)


def assemble(family: Family, size: Architecture, overrides: Mapping[str, Any]) -> DEQFlow | RAFT:
    """The network of an architecture, with overrides that `check_overrides` has accepted."""
    mini = size == MINI
    size = replace(size, **{key: overrides[key] for key in overrides.keys() & _OF_SIZE})
    choices = {key: overrides[key] for key in overrides.keys() & _OF_FAMILY[family]}
    scales = choices.pop("scales", None)
    if not isinstance(scales, Scales | None):
        raise TypeError(f"scales must be a deq_flow.Scales such as Scales(coarsest=160), or None, got {scales!r}")
    if family == "deq-flow":
        if "stop" in choices:
            choices.setdefault("eval_stop", None)
        network = DEQFlow(size, replace(MINI_EQUILIBRIUM if mini else Equilibrium(), **choices))
    else:
        if "steps" in choices:
            choices.setdefault("eval_steps", choices["steps"])
        network = RAFT(size, **({"steps": 6, "eval_steps": 12} if mini else {}) | choices)
    network.scales = scales
    return network


def check_overrides(name: str, overrides: Mapping[str, Any], known: frozenset[str] | Family) -> None:
    """Raises ValueError for an override outside `known`. For a family, those that do not affect weights are known."""
    known = known if isinstance(known, frozenset) else WEIGHTLESS | _OF_FAMILY[known]
    if unknown := sorted(overrides.keys() - known):
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
