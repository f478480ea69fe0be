"""The masks and weights of a solve for what `torch.utils.checkpoint` computes again inside f."""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from .scope import Scope, current_scope, enter
from .weights import Weights, open_weights, using


def checkpoint_contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The `context_fn` of a checkpoint inside f, by which what is computed again has the solve's masks and weights.

        checkpoint(block, z, use_reentrant=False, context_fn=deq.checkpoint_contexts)

    Without it the backward pass raises where `VariationalDropout` or `spectral_norm_` are inside, and mostly, in the
    words of torch, where other parametrised weights are.
    """
    return nullcontext(), _Again(current_scope(), open_weights())


class _Again(AbstractContextManager[None]):
    """A solve's scope and weights as they were, to be entered at every recomputation.

    A weight that was first made in the checkpointed part is made again, as torch counts what is saved there.
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
