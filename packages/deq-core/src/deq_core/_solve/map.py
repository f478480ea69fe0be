"""f as a map of flat states, with the same dropout masks, weights and autocast at every call."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_pre_hook

from .._scope.scope import Scope, current_scope, enter
from .._scope.weights import Weights, current_weights, using
from .tree import Ravel, Tree
from .unaliased import unchanged


def apply(f: Callable[..., Tree], state: Tree) -> Tree:
    """f(h, c) for a tuple state, f(z) for any other."""
    return f(*state) if type(state) is tuple else f(state)


class Map:
    """f on (B, n) states.

    f runs inside `block()`, in the forward and in the backward pass. A block has the dropout masks of the solve, and
    computes parametrised weights once. f runs under the autocast of the solve's caller; the rest of a block runs
    without autocast, in the precision of the state.

    Attributes:
        ravel: layout of the state.
        evaluations: number of calls so far.
        projection: a checksum of f at the solution, by which the backward pass detects that f has changed.
    """

    def __init__(self, f: Callable[..., Tree], ravel: Ravel) -> None:
        self.ravel = ravel
        self.evaluations = 0
        self.projection: Tensor | None = None
        self._f = f
        self._scope: Scope | None = None
        device = ravel.device.type
        self._autocast: dict[str, Any] = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        }
        if not torch.compiler.is_compiling():
            self._scope = current_scope() or Scope()

    def __call__(self, z: Tensor) -> Tensor:
        self.evaluations += 1
        if torch.compiler.is_compiling():
            return self._evaluate(z)
        if self.evaluations == 1:
            with _refusing_noise():
                return unchanged(self._evaluate, z, first=True)
        if self.evaluations > 2:
            return unchanged(self._evaluate, z, first=False)
        # The first call has drawn what is drawn once a solve, such as masks.
        before = _random_state(self.ravel.device)
        fz = unchanged(self._evaluate, z, first=False)
        if not torch.equal(before, _random_state(self.ravel.device)):
            self._refuse_noise(z, fz)
        return fz

    def _evaluate(self, z: Tensor) -> Tensor:
        state = self.ravel.unflatten(z)
        if not self._autocast["enabled"]:  # blocks run without autocast
            return self.ravel.flatten(apply(self._f, state))
        with torch.autocast(**self._autocast):
            return self.ravel.flatten(apply(self._f, state))

    @torch.no_grad()
    def _refuse_noise(self, z: Tensor, fz: Tensor) -> None:
        """Raises if a second f(z) differs from `fz`. If it does not, another thread has drawn random numbers."""
        self.evaluations += 1
        scale = 1e-3 * float(fz.abs().max()) if fz.isfinite().all() else 0.0
        if not torch.allclose(self._evaluate(z), fz, rtol=1e-3, atol=scale, equal_nan=True):
            raise ValueError(
                "f draws random numbers at every call (functional dropout, or the dropout inside attention): it "
                "has no fixed point, and a backward pass would see another mask. Use VariationalDropout, which draws "
                "one mask per solve, or drop outside of f"
            )

    def block(self, weights: Weights | None = None) -> AbstractContextManager[Any]:
        """The masks, weights and precision of the solve.

        Args:
            weights: the `weights()` of an earlier block, to be used in this one too.
        """
        return self.without_autocast() if torch.compiler.is_compiling() else self._block(weights)

    def weights(self) -> Weights:
        """The cache of the parametrised weights of this block."""
        return current_weights()

    def without_autocast(self) -> AbstractContextManager[Any]:
        """Full precision, for the algebra of a solver: with products in bfloat16 it stops converging."""
        return torch.autocast(self.ravel.device.type, enabled=False)

    @contextmanager
    def _block(self, weights: Weights | None) -> Iterator[None]:
        # A solve in a compiled graph has no scope, but its backward pass may run eagerly.
        weights = current_weights() if weights is None else weights
        with enter(self._scope or Scope()), self.without_autocast(), using(weights):
            try:
                yield
            finally:
                if self._autocast["enabled"]:
                    # Up to torch 2.6 the cache would give weights that were cast under no_grad to a pass with autograd.
                    torch.clear_autocast_cache()


def _random_state(device: torch.device) -> Tensor:
    """State of the device's random number generator."""
    if device.type != "cuda":
        return torch.get_rng_state()
    # It cannot be read during CUDA graph capture.
    return torch.empty(0) if torch.cuda.is_current_stream_capturing() else torch.cuda.get_rng_state(device)


@contextmanager
def _refusing_noise() -> Iterator[None]:
    """Raises if a module inside f computes something else at every call: BatchNorm or dropout in training mode."""

    owner = threading.get_ident()

    def check(module: nn.Module, inputs: Any) -> None:
        noisy = isinstance(module, (_BatchNorm, _DropoutNd)) and module.training  # torch 2.6 compiles no union here
        # The hook is global, so it also sees the modules of other threads.
        if not noisy or (not torch.compiler.is_compiling() and threading.get_ident() != owner):
            return
        if isinstance(module, _BatchNorm):
            raise ValueError(
                f"{module} is inside f in training mode: its statistics would move at every step of a solve. "
                "Use GroupNorm or LayerNorm, or put the module in eval mode"
            )
        if isinstance(module, _DropoutNd) and module.p > 0:
            raise ValueError(
                f"{module} is inside f in training mode: a new mask at every step leaves no fixed point. "
                "Use VariationalDropout, which draws one mask per solve"
            )

    hook = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()
