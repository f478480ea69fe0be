"""What is made once per solve and kept for its backward pass: dropout masks, singular vectors, delta memories."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

Value = TypeVar("Value")


class Scope:
    """What was made once in this solve, by owner and key: dropout masks, delta memories."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[object, dict[Hashable, Any]] = WeakKeyDictionary()

    def once(self, owner: object, key: Hashable, make: Callable[[], Value]) -> Value:
        """`make()` at the first call for this owner and key, the same value ever after."""
        made = self._made.setdefault(owner, {})
        # Threads that share a scope (asyncio.to_thread) may both make one; then the first counts.
        return made[key] if key in made else made.setdefault(key, make())


_CURRENT: ContextVar[Scope | None] = ContextVar("deq_core_scope", default=None)


def current_scope() -> Scope | None:
    """The scope of the solve that is running, if any."""
    return _CURRENT.get()


def once_a_solve(owner: nn.Module, key: Hashable, make: Callable[[], Value]) -> Value:
    """`make()`, of the first call in the solve that is running; of every call outside of one.

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
    """Makes `scope` the current one."""
    token = _CURRENT.set(scope)
    try:
        yield scope
    finally:
        _CURRENT.reset(token)


@contextmanager
def solve_scope() -> Iterator[None]:
    """Shares one set of dropout masks among everything inside: several solves, a Jacobian penalty.

    `fixed_point` opens a scope of its own where none is open.
    """
    with enter(Scope()):
        yield
