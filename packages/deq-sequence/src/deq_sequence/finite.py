"""The one rule for predictions that are no numbers: they are no predictions, and end the command that meets them."""

import math

from torch import Tensor

from deq_core.experiment.errors import NonFiniteError


def require_finite(values: Tensor, residual: Tensor, *, begin: int, name: str = "") -> None:
    """Raises where what a network says after one of the tokens it was given is not finite.

    So is all that it says where its solve met no finite state: it then returns where it began.

    Args:
        values: losses (B, T), or log-probabilities (B, T, vocabulary).
        residual: (B,) of the solve that they were read off.
        begin: how many tokens of each row come before these.
        name: how these were solved for, where that is not how the network says.

    Raises:
        NonFiniteError: naming the first token of the first row that has one.
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
        f"{f'{name}: ' if name else ''}{what}, as of a network whose weights or whose solve diverged; take another "
        "checkpoint, solver or precision"
    )


def perplexity(loss: float) -> float:
    """exp of a mean loss in nats.

    Raises:
        NonFiniteError: it is more than a float holds.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        raise NonFiniteError(
            f"a mean loss of {loss:.4g} nats a token has no finite perplexity, as of a network whose weights diverged; "
            "take another checkpoint"
        ) from None
