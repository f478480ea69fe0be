"""What stays fixed during a solve: dropout masks, and the precision f is evaluated in."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

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


class VariationalDropout(nn.Module):
    """Dropout whose mask is drawn once per solve, so that f stays one function and has a fixed point.

    Gal & Ghahramani, NeurIPS 2016, for recurrent nets; Bai et al., NeurIPS 2019, for equilibrium models. The mask is
    kept for the backward pass too. Outside a solve every call draws a new one, as `nn.Dropout` does.

    Args:
        p: probability that an entry is zeroed, in [0, 1); the others are scaled by 1 / (1 - p).
        shared: dimensions along which the mask is constant: (2, 3) drops whole channels of an image.
    """

    def __init__(self, p: float = 0.5, *, shared: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is the probability of dropping, at least 0 and below 1, got {p!r}")
        self.p = p
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """`x` under this solve's mask, same shape."""
        if not self.training or self.p == 0:
            return x
        return x * _mask(self, x)

    def extra_repr(self) -> str:
        return f"p={self.p}, shared={self.shared}"


def _draw_mask(dropout: VariationalDropout, x: Tensor) -> Tensor:
    """The mask of the solve that is running, or a new one."""
    shape = list(x.shape)
    for dimension in dropout.shared:
        shape[dimension] = 1

    def draw() -> Tensor:
        return torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1 - dropout.p) / (1 - dropout.p)

    scope = current_scope()
    return draw() if scope is None else scope.once(dropout, torch.Size(shape), draw)


# Not compiled: a graph would keep the first solve's mask. This form of `torch.compiler.disable` does not import the
# compiler, which takes as long as importing torch.
_mask = cast(Callable[[VariationalDropout, Tensor], Tensor], _disable_dynamo(_draw_mask))
