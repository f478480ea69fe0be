"""The best residual of every sample, and which samples are still active."""

from operator import lt

import torch
from torch import Tensor

from .modes import in_transform
from .outcome import Outcome

# So many samples or fewer are judged number by number on the host, which is quicker than four calls on tiny tensors.
_FEW = 128


class Convergence:
    """The residuals of a solve, judged step by step.

    As long as every sample improves and none has converged, which is most of a solve, one answer of the device is all
    that a step needs.

    Args:
        z: (B, n) the state that is judged, for its batch and device.
        tol: the residual at which a sample has converged; None for no such thing.
        look: whether the host may wait for the device.

    Attributes:
        trace: the residuals (B,) of the steps; a sample that is not active repeats its last one.
        lowest: (B,) the lowest residual of every sample, infinite before a finite one.
        improved: (B,) who improved at the last step. Only where not all or none have.
        active: (B,) who goes on: neither converged nor without a finite residual.
        missed: how many samples have not converged; None without a tolerance, or where the host may not look.
    """

    def __init__(self, z: Tensor, tol: float | None, *, look: bool) -> None:
        batch = len(z)
        self.trace: list[Tensor] = []
        self.lowest = z.new_full((batch,), torch.inf)
        self.active = self.improved = torch.ones(batch, dtype=torch.bool, device=z.device)
        self.missed = batch if look and tol is not None else None
        self._steps = torch.zeros(batch, dtype=torch.long, device=z.device)
        self._batch, self._tol, self._look = batch, tol, look
        self._all_active = look
        # The step at which all samples improved, where that is the last at which any has.
        self._all_improved = 0
        # Where the host judges: what every sample has to fall below, and the tolerance as the residuals' dtype has it.
        self._bars: list[float] | None = None
        self._bottom: float | None = None

    def judge(self, residual: Tensor) -> tuple[int | None, int | None]:
        """How many samples improved and how many are active, by the residuals (B,) of one more step.

        None and None where the host may not wait to know.
        """
        if self._all_active and self._usual(residual):
            self.trace.append(residual)
            self.lowest, self._all_improved = residual, len(self.trace)
            return self._batch, self._batch
        self._bars = None
        if self._all_improved:
            self._steps, self._all_improved = torch.full_like(self._steps, self._all_improved), 0
        if self.trace and not self._all_active:
            residual = torch.where(self.active, residual, self.trace[-1])
        self.trace.append(residual)
        self.improved = self.active & (residual < self.lowest)
        self.lowest = torch.where(self.improved, residual, self.lowest)
        self._steps = torch.where(self.improved, len(self.trace), self._steps)
        self.active = self.active & (residual < torch.inf)
        above = None if self._tol is None else self.lowest > self._tol
        if above is not None:
            self.active = self.active & above
        if not self._look:
            return None, None
        masks = [self.improved, self.active] if above is None else [self.improved, self.active, above]
        improved, active, *missed = torch.stack(masks).sum(1).tolist()
        self._all_active = active == self._batch
        self.missed = missed[0] if missed else None
        return improved, active

    def steps(self) -> Tensor:
        """(B,) the step with the lowest residual, counted from 1; 0 before a finite one."""
        return torch.full_like(self._steps, self._all_improved) if self._all_improved else self._steps

    def outcome(self) -> Outcome:
        """How each sample stands: converged, not finite, or out of steps if there are no more."""
        if self._all_active or self.missed == 0:
            return Outcome.of_all(len(self.lowest), converged=not self._all_active, device=self.lowest.device)
        converged = torch.zeros_like(self.active) if self._tol is None else self.lowest <= self._tol
        return Outcome.of(converged, self.trace[-1] < torch.inf)

    def _usual(self, residual: Tensor) -> bool:
        """Whether every sample improves and stays active: what the host waits for."""
        try:
            if self._batch <= _FEW:
                return self._few_usual(residual.tolist(), residual.dtype)
            improved = residual < self.lowest
            return bool((improved if self._tol is None else improved & (residual > self._tol)).all())
        except RuntimeError as error:
            if not in_transform():
                raise
            raise RuntimeError(
                "torch.vmap cannot follow a solve that looks at its residuals: use Stop(n, tol=None), or no vmap, as "
                "the samples of a batch are solved one by one anyway"
            ) from error

    def _few_usual(self, residual: list[float], dtype: torch.dtype) -> bool:
        if self._bottom is None:
            self._bottom = -1.0 if self._tol is None else torch.tensor(self._tol, dtype=dtype).item()
        bars = self.lowest.tolist() if self._bars is None else self._bars
        self._bars = residual
        # What is no number is below no bar, whatever the minimum makes of it.
        return not residual or (self._bottom < min(residual) and all(map(lt, residual, bars)))
