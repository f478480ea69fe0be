"""The check that estimated flow is finite. If it is not, the command fails."""

from torch import Tensor

from deq_core.experiment.errors import NonFiniteError


def require_finite(flow: Tensor, name: str) -> None:
    """Raises if the flow (2, h, w) of the pair `name` is not finite, or its speed overflows.

    Raises:
        NonFiniteError: the message names the pair.
    """
    lost = ~flow.norm(dim=0).isfinite()
    if lost.any():
        raise NonFiniteError(
            f"{name}: the flow is not finite at {int(lost.sum())} of {lost.numel()} pixels: the network's weights or "
            "its solve diverged; take another checkpoint, solver or precision"
        )
