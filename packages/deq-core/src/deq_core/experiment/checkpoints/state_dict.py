"""Finds the state_dict of a network in the files of training programs, and removes wrappers' parts of names.

`torch.compile`, data parallelism, averaging and trainers prefix the names of what they wrap. The prefix is inside a
name if only a part of the network was wrapped.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from deq_core.experiment.errors import CheckpointError

WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Parts of names added by `torch.compile`, (distributed) data parallelism and averaging, fully sharded data
parallelism, activation checkpointing and Lightning. No layer of our networks has such a name."""
COUNTER = "n_averaged"
"""Counter of `torch.optim.swa_utils.AveragedModel`."""
LOSS = "loss"
"""Prefix of the weights of a trainer's loss, which are beside the network."""
KEYS = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights", "params")
"""Keys under which training programs store a network."""
MOST = 200
"""Maximum number of mappings that are searched under one key."""


def state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors of the one network in `content`, under their names without wrappers.

    Raises:
        CheckpointError: there is no network or more than one, or two tensors would get the same name.
    """
    return unwrapped(found(content))


def found(content: Any) -> Mapping[str, Tensor]:
    """The mapping of names to tensors in `content`: itself, or nested under one of its keys."""
    if is_state(content):
        return content
    inner = {key: value for key, value in content.items() if holds(value)} if isinstance(content, Mapping) else {}
    named = [key for key in KEYS if key in inner] or list(inner)
    if len(named) == 1:
        return found(inner[named[0]])
    if named:
        raise CheckpointError(
            f"expected one network (a state_dict), got several, under {', '.join(map(repr, named))}; save only the "
            "one that you mean"
        )
    got = type(content).__name__
    if isinstance(content, Mapping):
        others = [f"{key!r}: {type(value).__name__}" for key, value in content.items() if not isinstance(value, Tensor)]
        more = ", ..." if len(others) > 5 else ""
        unnamed = "one with keys that are no names" if content else "an empty one"
        got = f"one with {', '.join(others[:5])}{more}" if others else unnamed
    raise CheckpointError(f"expected a dictionary of tensors (a state_dict), got {got}")


def is_state(content: Any) -> bool:
    """Whether `content` is a non-empty mapping of names to tensors only."""
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def holds(content: Any, seen: set[int] | None = None) -> bool:
    """Whether the first `MOST` mappings in `content` include a network's state_dict (an optimiser's has numbers)."""
    seen = set() if seen is None else seen
    if is_state(content):
        return True
    if (
        not isinstance(content, Mapping)
        or id(content) in seen
        or len(seen) > MOST
        or not all(isinstance(key, str) for key in content)
    ):
        return False
    seen.add(id(content))
    return any(holds(value, seen) for value in content.values())


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `state` without wrappers' parts of names, counters, and weights of a loss beside the network.

    Raises:
        CheckpointError: two tensors would get the same name; the message names both.
    """
    names = {name: tuple(part for part in name.split(".") if part not in WRAPPERS) for name in state}
    names = {name: parts for name, parts in names.items() if parts and parts[-1] != COUNTER}
    while attribute := shared(names.values()):
        names = {name: parts[1:] for name, parts in names.items() if parts[0] == attribute}
    return renamed(state, {name: ".".join(parts) for name, parts in names.items()})


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of `state` in `names`, which maps old to new names, under their new names.

    Raises:
        CheckpointError: two tensors would get the same name; the message names both.
    """
    origin: dict[str, str] = {}
    for old, new in names.items():
        if new in origin:
            raise CheckpointError(
                f"{origin[new]} and {old} of the file are both {new} here; leave one of them out of the file"
            )
        origin[new] = old
    return {new: state[old] for new, old in origin.items()}


def shared(names: Iterable[tuple[str, ...]]) -> str:
    """The first part that all names share, except those of a loss; empty if there is none.

    It is the attribute under which a trainer holds the network. The rest of the names must still be nested.
    """
    inner = [name for name in names if name[0] != LOSS]
    first = {name[0] for name in inner}
    return first.pop() if len(first) == 1 and all(len(name) > 2 for name in inner) and len(inner) > 1 else ""
