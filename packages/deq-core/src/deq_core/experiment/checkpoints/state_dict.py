"""The tensors of a network in what a training program saved: below which keys, and behind which wrappers' names.

`torch.compile`, data parallelism, averaging and trainers each put a word before the names of what they wrap, some of
them also within, where a part of the network was wrapped alone.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from deq_core.experiment.errors import CheckpointError

WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Parts of names that wrappers add, of `torch.compile`, (distributed) data parallelism and averaging, fully sharded
data parallelism, activation checkpointing and Lightning. No layer of a network known here has such a name."""
COUNTER = "n_averaged"
"""What `torch.optim.swa_utils.AveragedModel` counts in."""
LOSS = "loss"
"""The part of a trained wrapper that holds weights of its loss beside the network."""
KEYS = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights", "params")
"""Keys under which training programs keep a network in a file with other things."""
MOST = 200
"""Mappings in each other, or beside each other under one key, that are looked through."""


def state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors of the one network in `content`, under the names that they have without wrappers.

    Raises:
        CheckpointError: there is no network, or more than one; or two tensors would have one name.
    """
    return unwrapped(found(content))


def found(content: Any) -> Mapping[str, Tensor]:
    """The mapping of names to tensors in `content`: itself, or what it has, however deep, under one of its keys."""
    if is_state(content):
        return content
    inner = {key: value for key, value in content.items() if holds(value)} if isinstance(content, Mapping) else {}
    named = [key for key in KEYS if key in inner] or list(inner)
    if len(named) == 1:
        return found(inner[named[0]])
    if named:
        raise CheckpointError(
            f"expected one network (a state_dict), got several, under {', '.join(map(repr, named))}; save the one that "
            "is meant alone"
        )
    got = type(content).__name__
    if isinstance(content, Mapping):
        others = [f"{key!r}: {type(value).__name__}" for key, value in content.items() if not isinstance(value, Tensor)]
        more = ", ..." if len(others) > 5 else ""
        got = f"in it {', '.join(others[:5])}{more}" if others else "an empty one" if not content else "numbered ones"
    raise CheckpointError(f"expected a dictionary of tensors (a state_dict), got {got}")


def is_state(content: Any) -> bool:
    """Whether it maps names to tensors and holds nothing else."""
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def holds(content: Any, seen: set[int] | None = None) -> bool:
    """Whether a state_dict is among the first `MOST` mappings in it; an optimiser's has numbers, and is none."""
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
    """The tensors of `state` without what wrappers added: parts of names, counters, and beside a network its loss.

    Raises:
        CheckpointError: two tensors would have one name; the message has both.
    """
    names = {name: tuple(part for part in name.split(".") if part not in WRAPPERS) for name in state}
    names = {name: parts for name, parts in names.items() if parts and parts[-1] != COUNTER}
    while attribute := shared(names.values()):
        names = {name: parts[1:] for name, parts in names.items() if parts[0] == attribute}
    return renamed(state, {name: ".".join(parts) for name, parts in names.items()})


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of `state` whose new names are given, under these.

    Raises:
        CheckpointError: two tensors would have one name; the message has both.
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
    """The part that all names begin with, those of a loss aside; empty if there is none.

    It is the attribute of a trainer that holds the network. What is left of names must be those of several layers.
    """
    inner = [name for name in names if name[0] != LOSS]
    first = {name[0] for name in inner}
    return first.pop() if len(first) == 1 and all(len(name) > 2 for name in inner) and len(inner) > 1 else ""
