"""What a solver is."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .._solve.modes import in_place


@runtime_checkable
class Solver(Protocol):
    """An update rule for z = f(z) on flat (B, n) states: it proposes the next state from what it has seen.

    A solver never calls f and owns no loop. Every sample is treated as if it were alone: no operation may mix rows.

    One that keeps the residual f(z) - z may also have `residual_row(state) -> Tensor | None`, the (B, n) row of its
    memory where the next `step` looks for it. The loop then writes it there when it measures its norm, which spares a
    pass over both; None says that there is no such row this time. After `residual_row` the state is only good for that
    `step`.

    One whose steps grow with the state, so that they are the same for s · z and s · f(z) but for the factor s, may say
    so by an attribute `equivariant = True`. Where squares of a state would under- or overflow, the loop then shows it
    a multiple of ordinary length.
    """

    def init(self, z: Tensor, max_steps: int) -> Any:
        """The memory before the first step, for z0 (B, n); `max_steps` only sizes buffers."""
        ...

    def step(self, z: Tensor, fz: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The state (B, n) to evaluate next, and the memory that goes with it.

        Neither z nor fz may be changed. The memory may reuse the buffers of `state`, which is not read again.
        """
        ...


def put(buffer: Tensor, slot: int, row: Tensor) -> Tensor:
    """`buffer` (B, rows, n) with `row` (B, n) in `slot`."""
    buffer = buffer if in_place() else buffer.clone()
    buffer[:, slot] = row
    return buffer


def put_difference(buffer: Tensor, slot: int, z: Tensor, fz: Tensor) -> Tensor:
    """`buffer` (B, rows, n) with f(z) - z in `slot`, and no temporary where that is possible."""
    if not in_place():
        return put(buffer, slot, fz - z)
    torch.sub(fz, z, out=buffer[:, slot])
    return buffer


def inner_products(row: Tensor, rows: Tensor) -> Tensor:
    """(B, n) · (B, m, n) → (B, m). Written as a row times a matrix, which reads long rows once on every device."""
    return torch.bmm(row.unsqueeze(1), rows.mT).squeeze(1)


def solved(system: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The solution (B, m) of small systems (B, m, m), and (B, 1) whose is regular: no gradient passes another."""
    if not torch.is_grad_enabled():
        solution, info = torch.linalg.solve_ex(system, right)
        return solution, info[:, None] == 0
    # The gradient of a singular system is no number, and neither is zero times it: the identity stands for it.
    regular = torch.linalg.solve_ex(system.detach(), right.detach()).info[:, None] == 0
    identity = torch.eye(system.shape[1], dtype=system.dtype, device=system.device)
    return torch.linalg.solve_ex(torch.where(regular[:, :, None], system, identity), right).result, regular


def check_damping(damping: float) -> None:
    if not 0 <= damping < 1:
        raise ValueError(f"damping is the share of the old state that is kept, at least 0 and below 1, got {damping!r}")
