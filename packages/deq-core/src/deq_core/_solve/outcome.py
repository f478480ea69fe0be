"""How each sample of a solve ended."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# A code is an index into these words.
_WORDS = ("converged", "out of steps", "not finite", "rejected by check", "stopped early")
_CONVERGED, _OUT_OF_STEPS, _NOT_FINITE, _REJECTED, _STOPPED_EARLY = range(len(_WORDS))


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """How each sample of a solve ended. It prints as counts; for each sample one of its masks (B,) is true.

        sol.outcome                    # Outcome(6 converged, 1 out of steps, 1 not finite)
        sol.outcome[7]                 # 'not finite'
        sol.value[sol.outcome.not_finite]

    Attributes:
        code: (B,) int64, index of the word that is printed.
    """

    code: Tensor

    @property
    def converged(self) -> Tensor:
        """(B,) bool: the residual is within the tolerance; False everywhere without one."""
        return self.code == _CONVERGED

    @property
    def out_of_steps(self) -> Tensor:
        """(B,) bool: finite, but not within the tolerance after all steps; without one, all finite samples."""
        return self.code == _OUT_OF_STEPS

    @property
    def not_finite(self) -> Tensor:
        """(B,) bool: the residual became infinite or NaN; the value is the best state before that."""
        return self.code == _NOT_FINITE

    @property
    def rejected(self) -> Tensor:
        """(B,) bool: f is within the tolerance, but `fixed_point`'s `check` is not."""
        return self.code == _REJECTED

    @property
    def stopped_early(self) -> Tensor:
        """(B,) bool: given up before the last step, as `released_fixed_point` does on a stall or divergence."""
        return self.code == _STOPPED_EARLY

    @classmethod
    def of(cls, converged: Tensor, finite: Tensor) -> Self:
        """The outcome by masks (B,): residual within the tolerance, and last residual finite."""
        return cls(torch.where(finite, _OUT_OF_STEPS, _NOT_FINITE).masked_fill(converged, _CONVERGED))

    @classmethod
    def of_all(cls, samples: int, *, converged: bool, device: torch.device) -> Self:
        """The outcome if all `samples` converged, or none did and all are finite."""
        return cls(torch.full((samples,), _CONVERGED if converged else _OUT_OF_STEPS, device=device))

    def __len__(self) -> int:
        return len(self.code)

    def __iter__(self) -> Iterator[str]:
        return iter([_WORDS[code] for code in self.code.tolist()])

    def __getitem__(self, sample: int) -> str:
        return _WORDS[int(self.code[sample])]

    def counts(self) -> dict[str, int]:
        """Number of samples by the word for how they ended, without zeros."""
        counts = torch.bincount(self.code, minlength=len(_WORDS)).tolist()
        return {word: count for word, count in zip(_WORDS, counts, strict=True) if count}

    def __repr__(self) -> str:
        return f"Outcome({', '.join(f'{count} {word}' for word, count in self.counts().items())})"


def checked(outcome: Outcome, converged: Tensor) -> Outcome:
    """The outcome after `check`, by which the samples `converged` (B,)."""
    code = torch.where(outcome.converged, _REJECTED, outcome.code)
    return Outcome(code.masked_fill(converged, _CONVERGED))


def stopped_early(outcome: Outcome) -> Outcome:
    """The outcome of a solve that ended before its last step."""
    return Outcome(torch.where(outcome.out_of_steps, _STOPPED_EARLY, outcome.code))
