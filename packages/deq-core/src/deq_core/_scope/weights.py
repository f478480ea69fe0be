"""A cache of parametrised weights, for a block of a solve or one of the user's."""

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
    """A weight, with the tensors it was computed from and their versions."""

    originals: tuple[Any, ...]
    versions: tuple[int, ...]
    weight: Tensor


# By parametrisation, grad mode and inference mode: a weight computed under no_grad has no gradient to its parameters.
Weights = dict[tuple[parametrize.ParametrizationList, bool, bool], _Made]

_WEIGHTS: ContextVar[Weights | None] = ContextVar("deq_core_weights", default=None)


@contextmanager
def cached_weights() -> Iterator[None]:
    """Computes parametrised weights, such as those of `weight_norm_`, once for everything inside.

    A solve does so by itself; this is for several solves, and for evaluations outside of one. It holds for the thread
    that enters it, whereas torch's `parametrize.cached()` holds for the whole process and may give the weights of one
    thread to another, without gradients. A weight whose parameters change inside is computed again.
    """
    with using(current_weights()):
        yield


@contextmanager
def using(weights: Weights) -> Iterator[None]:
    """Makes `weights` the cache of the weights computed inside."""
    token = _WEIGHTS.set(weights)
    try:
        yield
    finally:
        _WEIGHTS.reset(token)


def open_weights() -> Weights | None:
    """The cache of the open block, or None."""
    return _WEIGHTS.get()


def current_weights() -> Weights:
    """The cache of the open block, or a new one."""
    weights = open_weights()
    return {} if weights is None else weights


class _OutsideBlocks(dict[Any, Any]):
    """The cache of `parametrize.cached()`, which blocks neither read nor fill."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key, default) if _WEIGHTS.get() is None else default

    def __setitem__(self, key: Any, value: Any) -> None:
        if _WEIGHTS.get() is None:
            super().__setitem__(key, value)


_compute = parametrize.ParametrizationList.forward


def _once(self: parametrize.ParametrizationList) -> Tensor:
    """The weight; inside a block, as first computed there."""
    if torch.compiler.is_compiling():
        return _compute(self)
    weights = _WEIGHTS.get()
    if weights is None:
        # torch makes a new dictionary after each outermost `cached()`, and calls this before it stores a weight there.
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


# `_compute_as_first` replaces a module's buffers for a moment, which other threads must not see.
_BUFFERS = threading.RLock()


def _compute_as_first(self: parametrize.ParametrizationList) -> Tensor:
    """The weight, computed with the buffers of its first computation in the solve.

    torch's spectral norm updates its buffers at every computation. Here only the first one in a solve updates them.
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


# torch's own cache is one for all threads. This method is what torch calls to compute a weight that is not in it, so
# it is the place for a cache of a block.
parametrize.ParametrizationList.forward = _once
