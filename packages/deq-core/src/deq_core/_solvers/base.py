"""The interface of solvers, and algebra that they share."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .._solve.modes import in_place


@runtime_checkable
class Solver(Protocol):
    """An update rule for z = f(z) on flat (B, n) states: it proposes the next state from the states seen so far.

    A solver never calls f and has no loop. Each sample is treated as if it were alone: no operation may mix rows.

    A solver that keeps the residual f(z) - z may have a method `residual_row(state) -> Tensor | None`: the (B, n) row
    of its memory where the next `step` expects the residual, or None if there is no such row this time. The loop then
    writes the residual there when it measures its norm, which saves a pass over z and f(z). After `residual_row` the
    state may only be used for that `step`.

    A solver whose steps scale with the state, that is, to which s · z and s · f(z) give s times the step, may set the
    attribute `equivariant = True`. If squares of a state would under- or overflow, the loop then gives it a multiple of
    the state.
    """

    def init(self, z: Tensor, max_steps: int) -> Any:
        """The memory before the first step; `max_steps` only sizes its buffers. z is z0, (B, n)."""
        ...

    def step(self, z: Tensor, fz: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The state (B, n) at which to evaluate f next, and the new memory.

        z and fz must not be changed. The new memory may reuse the buffers of `state`, which is not read again.
        """
        ...


def put(buffer: Tensor, slot: int, row: Tensor) -> Tensor:
    """`buffer` (B, rows, n) with `row` (B, n) in `slot`."""
    buffer = buffer if in_place() else buffer.clone()
    buffer[:, slot] = row
    return buffer


def put_difference(buffer: Tensor, slot: int, z: Tensor, fz: Tensor) -> Tensor:
    """`buffer` (B, rows, n) with f(z) - z in `slot`, without a temporary where buffers may be overwritten."""
    if not in_place():
        return put(buffer, slot, fz - z)
    torch.sub(fz, z, out=buffer[:, slot])
    return buffer


def inner_products(row: Tensor, rows: Tensor) -> Tensor:
    """Inner products of `row` (B, n) with `rows` (B, m, n), (B, m), as a matrix product, which reads rows only once."""
    return torch.bmm(row.unsqueeze(1), rows.mT).squeeze(1)


def solved(system: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions (B, m) of small systems (B, m, m), and which are regular, (B, 1); singular ones get no gradient."""
    if not torch.is_grad_enabled():
        solution, info = torch.linalg.solve_ex(system, right)
        return solution, info[:, None] == 0
    # A singular system has a NaN gradient, which a mask cannot undo, so it is replaced by the identity.
    regular = torch.linalg.solve_ex(system.detach(), right.detach()).info[:, None] == 0
    identity = torch.eye(system.shape[1], dtype=system.dtype, device=system.device)
    return torch.linalg.solve_ex(torch.where(regular[:, :, None], system, identity), right).result, regular


def check_damping(damping: float) -> None:
    if not 0 <= damping < 1:
        raise ValueError(f"damping is the share of the old state that is kept, at least 0 and below 1, got {damping!r}")
