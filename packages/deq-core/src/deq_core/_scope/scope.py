"""Values that are made once a solve and kept for its backward pass: dropout masks, singular vectors, delta memories."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

Value = TypeVar("Value")


class Scope:
    """The values made once in this solve, by owner and key."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[object, dict[Hashable, Any]] = WeakKeyDictionary()

    def once(self, owner: object, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of this owner and key, made by `make()` at the first call."""
        made = self._made.setdefault(owner, {})
        # Two threads that share a scope (asyncio.to_thread) may both make a value; the first one is kept.
        return made[key] if key in made else made.setdefault(key, make())


_CURRENT: ContextVar[Scope | None] = ContextVar("deq_core_scope", default=None)


def current_scope() -> Scope | None:
    """The scope of the solve that is running, if any."""
    return _CURRENT.get()


def once_a_solve(owner: nn.Module, key: Hashable, make: Callable[[], Value]) -> Value:
    """The value made by the first call in the running solve; outside of a solve, a new value at every call.

    Raises:
        RuntimeError: the owner has been in a solve, and a backward pass calls it outside of one.
    """
    scope, compiling = current_scope(), torch.compiler.is_compiling()
    if scope is not None:
        if not compiling:
            owner.__dict__["_in_solves"] = True
        return scope.once(owner, key, make)
    if not compiling and owner.__dict__.get("_in_solves") and torch._C._current_graph_task_id() >= 0:
        raise RuntimeError(
            f"a backward pass computes {owner} again outside of its solve, where what was drawn there is not known: "
            "use checkpoint(..., use_reentrant=False, context_fn=deq_core.checkpoint_contexts) inside f"
        )
    return make()


@contextmanager
def enter(scope: Scope) -> Iterator[Scope]:
    """Makes `scope` the current scope."""
    token = _CURRENT.set(scope)
    try:
        yield scope
    finally:
        _CURRENT.reset(token)


@contextmanager
def solve_scope() -> Iterator[None]:
    """Shares one set of dropout masks among everything inside, such as several solves and a Jacobian penalty.

    `fixed_point` opens a scope of its own if none is open.
    """
    with enter(Scope()):
        yield
