"""The one rule for values that are not numbers: they are no prediction, and end the command that meets them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deq_core.experiment.errors import NonFiniteError

NO_CLASS = -1
"""The predicted class where a score is not a number."""


def require_finite(outputs: Tensor, residual: Tensor, names: Sequence[str]) -> None:
    """Raises unless all that a network gave for some images are numbers.

    The outputs alone do not tell: where no evaluation was finite, a solve returns the state that it began at, from
    which the head makes numbers; its residual then is infinite.

    Args:
        outputs: (b, ...), of the head.
        residual: (b,), of the solve.
        names: of the b images.

    Raises:
        NonFiniteError: naming the first image of which they are not.
    """
    finite = {"output": outputs.flatten(1).isfinite().all(dim=1), "residual": residual.isfinite()}
    for place, name in enumerate(names):
        for what, numbers in finite.items():
            if not numbers[place]:
                raise NonFiniteError(
                    f"{name}: the network's {what} is not finite, as of weights or of a solve that diverged; take "
                    "another checkpoint, solver or precision"
                )


def argmax_class(scores: Tensor) -> Tensor:
    """int64 (b, ...), the class of greatest score of (b, classes, ...), of equal ones the first; `NO_CLASS` at NaN."""
    greatest = scores.max(dim=1)
    return torch.where(greatest.values.isfinite(), greatest.indices, NO_CLASS)
