"""The rule for non-finite predictions: they are no predictions, and end the command."""

import math

from torch import Tensor

from deq_core.experiment.errors import NonFiniteError


def require_finite(values: Tensor, residual: Tensor, *, begin: int, name: str = "") -> None:
    """Raises unless a network's predictions and residuals are finite.

    Checking the predictions alone is not enough: a solve without a finite state returns its initial state, with an
    infinite residual.

    Args:
        values: losses (B, T), or log-probabilities (B, T, vocabulary).
        residual: residuals of the solve, (B,).
        begin: number of tokens of each row before these.
        name: name of the solve for the message, if it is not the network's own.

    Raises:
        NonFiniteError: a prediction or residual is not finite; the message names the first such token of the first such
            row.
    """
    lost = ~values.reshape(*values.shape[:2], -1).isfinite().all(-1)
    unsolved = ~residual.isfinite()
    if not (lost.any() or unsolved.any()):
        return
    row = int((lost.any(-1) | unsolved).nonzero()[0])
    of_row = f" of row {row + 1}" if len(lost) > 1 else ""
    if lost[row].any():
        what = f"the prediction after token {begin + int(lost[row].nonzero()[0]) + 1}{of_row} is not finite"
    else:
        what = f"no state of the solve of tokens {begin + 1} to {begin + lost.shape[1]}{of_row} is finite"
    raise NonFiniteError(
        f"{f'{name}: ' if name else ''}{what}: the network's weights or its solve diverged; take another "
        "checkpoint, solver or precision"
    )


def perplexity(loss: float) -> float:
    """exp of a mean loss in nats.

    Raises:
        NonFiniteError: the result overflows.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        raise NonFiniteError(
            f"a mean loss of {loss:.4g} nats a token has no finite perplexity: the network's weights diverged; "
            "take another checkpoint"
        ) from None
