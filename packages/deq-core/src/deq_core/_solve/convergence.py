"""The best residual of each sample, and which samples are still active."""

from operator import lt

import torch
from torch import Tensor

from .modes import in_transform
from .outcome import Outcome

# Up to this many samples are compared one by one on the host, which is faster than operations on tiny tensors.
_FEW = 128


class Convergence:
    """Follows the residuals of a solve, step by step.

    As long as every sample improves and none has converged, which is most of a solve, a step reads from the device only
    once.

    Args:
        z: (B, n) initial state, for its batch size and device.
        tol: residual at or below which a sample has converged; None if there is no tolerance.
        look: whether the host may wait for the device.

    Attributes:
        trace: residuals (B,) of the steps; a sample that is not active repeats its last one.
        lowest: (B,) lowest residual of each sample, infinite before the first finite one.
        improved: (B,) samples that improved at the last step; stale if `judge` says that all did.
        active: (B,) samples that have neither converged nor failed.
        missed: number of samples that have not converged; None without a tolerance, or if the host may not wait.
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
        # The last step if all samples improved at it, in place of `_steps`; otherwise 0.
        self._all_improved = 0
        # For comparisons on the host: the residuals to fall below, and the tolerance rounded to the residuals' dtype.
        self._bars: list[float] | None = None
        self._bottom: float | None = None

    def judge(self, residual: Tensor) -> tuple[int | None, int | None]:
        """Takes the residuals (B,) of a step, and returns how many samples improved and how many are active.

        Both are None if the host may not wait.
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
        """(B,) the step with the lowest residual, counted from 1; 0 before the first finite one."""
        return torch.full_like(self._steps, self._all_improved) if self._all_improved else self._steps

    def outcome(self) -> Outcome:
        """The outcome if the solve ends here."""
        if self._all_active or self.missed == 0:
            return Outcome.of_all(len(self.lowest), converged=not self._all_active, device=self.lowest.device)
        converged = torch.zeros_like(self.active) if self._tol is None else self.lowest <= self._tol
        return Outcome.of(converged, self.trace[-1] < torch.inf)

    def _usual(self, residual: Tensor) -> bool:
        """Whether all samples improve and none converges, the usual case; waits for the device."""
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
        # min() may miss a NaN, but no NaN is below its bar.
        return not residual or (self._bottom < min(residual) and all(map(lt, residual, bars)))
