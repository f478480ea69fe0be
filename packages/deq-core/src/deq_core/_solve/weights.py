"""Parametrised weights, computed once: in a block of a solve, or in one of the caller's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from .scope import current_scope


class _Made(NamedTuple):
    """A weight, and what it was made from."""

    originals: tuple[Any, ...]
    versions: tuple[int, ...]
    weight: Tensor


# By parametrisation and by what autograd records: a weight made without would lose the gradient of its parameters.
Weights = dict[tuple[parametrize.ParametrizationList, bool, bool], _Made]

_WEIGHTS: ContextVar[Weights | None] = ContextVar("deq_core_weights", default=None)


@contextmanager
def cached_weights() -> Iterator[None]:
    """Parametrised weights are computed once inside, as `weight_norm_`'s, and by all solves inside together.

    A solve does so by itself; this is for several, and for evaluations outside of one. It holds for the thread that
    enters it, where torch's `parametrize.cached()` holds for the whole process and may hand one thread's weights to
    another, without their gradients. A weight whose parameters change inside is computed again.
    """
    with using(current_weights()):
        yield


@contextmanager
def using(weights: Weights) -> Iterator[None]:
    """Weights inside are taken from `weights`, and put there when they are first computed."""
    token = _WEIGHTS.set(weights)
    try:
        yield
    finally:
        _WEIGHTS.reset(token)


def open_weights() -> Weights | None:
    """Those of the block that is open; None where there is none."""
    return _WEIGHTS.get()


def current_weights() -> Weights:
    """Those of the block that is open; none yet where there is none."""
    weights = open_weights()
    return {} if weights is None else weights


class _OutsideBlocks(dict[Any, Any]):
    """What `parametrize.cached()` keeps, of which blocks see nothing and to which they add nothing."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key, default) if _WEIGHTS.get() is None else default

    def __setitem__(self, key: Any, value: Any) -> None:
        if _WEIGHTS.get() is None:
            super().__setitem__(key, value)


_compute = parametrize.ParametrizationList.forward


def _once(self: parametrize.ParametrizationList) -> Tensor:
    """The weight, in a block as it was first computed."""
    if torch.compiler.is_compiling():
        return _compute(self)
    weights = _WEIGHTS.get()
    if weights is None:
        # torch calls this before it keeps a weight, in a new dictionary after each outermost `cached()`.
        if type(parametrize._cache) is not _OutsideBlocks:
            parametrize._cache = _OutsideBlocks(parametrize._cache)
        return _compute(self)
    key = self, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    originals = (*self._parameters.values(), *self._buffers.values())
    versions = tuple([0 if x is None or x.is_inference() else x._version for x in originals])
    made = weights.get(key)
    if made is None or made.versions != versions or [*map(id, made.originals)] != [*map(id, originals)]:
        made = weights[key] = _Made(originals, versions, _compute_as_first(self))
    return made.weight


# Buffers are put aside and back: no thread may compute with those of another's solve.
_BUFFERS = threading.RLock()


def _compute_as_first(self: parametrize.ParametrizationList) -> Tensor:
    """The weight, by the buffers with which its solve first computed it: those of torch's spectral norm move each time.

    The solve's first computation alone moves them.
    """
    scope = current_scope()
    if scope is None or next(self.buffers(), None) is None:
        return _compute(self)
    with _BUFFERS:
        buffers = [
            (module._buffers, name, buffer)
            for parametrization in self
            for module in parametrization.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None and not buffer.requires_grad
        ]
        first = scope.once(self, "buffers", list[Tensor])
        if not first:
            first += [buffer.clone() for _, _, buffer in buffers]
            return _compute(self)
        try:
            for (owner, name, _), value in zip(buffers, first, strict=True):
                owner[name] = value.clone()
            return _compute(self)
        finally:
            for owner, name, buffer in buffers:
                owner[name] = buffer


# torch has one cache and one switch for all threads, and calls this where neither applies: the one place where weights
# can belong to a block.
parametrize.ParametrizationList.forward = _once
