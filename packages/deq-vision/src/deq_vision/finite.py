"""The rule for non-finite values: they are no prediction, and end the command."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deq_core.experiment.errors import NonFiniteError

NO_CLASS = -1
"""Predicted class where a score is not finite."""


def require_finite(outputs: Tensor, residual: Tensor, names: Sequence[str]) -> None:
    """Raises unless outputs and residuals of a network are finite for all images.

    Checking the outputs alone is not enough: if no evaluation was finite, a solve returns its initial state, whose
    outputs are finite, with an infinite residual.

    Args:
        outputs: outputs of the head, (b, ...).
        residual: residuals of the solve, (b,).
        names: names of the b images.

    Raises:
        NonFiniteError: an output or residual is not finite; the message names the first such image.
    """
    finite = {"output": outputs.flatten(1).isfinite().all(dim=1), "residual": residual.isfinite()}
    for place, name in enumerate(names):
        for what, numbers in finite.items():
            if not numbers[place]:
                raise NonFiniteError(
                    f"{name}: the network's {what} is not finite: its weights or its solve diverged; take "
                    "another checkpoint, solver or precision"
                )


def argmax_class(scores: Tensor) -> Tensor:
    """int64 (b, ...), the first class of greatest score in (b, classes, ...); `NO_CLASS` where that is not finite."""
    greatest = scores.max(dim=1)
    return torch.where(greatest.values.isfinite(), greatest.indices, NO_CLASS)
