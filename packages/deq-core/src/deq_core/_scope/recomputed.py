"""The masks and weights of a solve for parts of f that `torch.utils.checkpoint` recomputes."""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from .scope import Scope, current_scope, enter
from .weights import Weights, open_weights, using


def checkpoint_contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The `context_fn` for a checkpoint inside f: the recomputation uses the solve's masks and weights.

        checkpoint(block, z, use_reentrant=False, context_fn=deq.checkpoint_contexts)

    Without it the backward pass raises if `VariationalDropout` or `spectral_norm_` is inside. With other parametrised
    weights torch raises an error of its own in most cases.
    """
    return nullcontext(), _Again(current_scope(), open_weights())


class _Again(AbstractContextManager[None]):
    """Enters the solve's scope and weights again at every recomputation.

    A weight that was first computed inside the checkpoint is computed again, since torch expects the recomputation to
    save the same number of tensors.
    """

    def __init__(self, scope: Scope | None, weights: Weights | None) -> None:
        self._scope, self._weights = scope, None if weights is None else dict(weights)
        self._entered = ExitStack()

    def __enter__(self) -> None:
        if self._scope is not None:
            self._entered.enter_context(enter(self._scope))
        if self._weights is not None:
            self._entered.enter_context(using(dict(self._weights)))

    def __exit__(self, *exception: object) -> None:
        self._entered.close()
