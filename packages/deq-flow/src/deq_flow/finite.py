"""The one rule for flow that is not a number: it is no flow, and fails the command that meets it."""

from torch import Tensor

from deq_core.experiment.errors import NonFiniteError


def require_finite(flow: Tensor, name: str) -> None:
    """Raises where the flow (2, h, w) of the pair called `name` is not finite, or too fast for its speed to be.

    Raises:
        NonFiniteError: naming the pair.
    """
    lost = ~flow.norm(dim=0).isfinite()
    if lost.any():
        raise NonFiniteError(
            f"{name}: the flow is not finite at {int(lost.sum())} of {lost.numel()} pixels, as of a network whose "
            "weights or whose solve diverged; take another checkpoint, solver or precision"
        )
