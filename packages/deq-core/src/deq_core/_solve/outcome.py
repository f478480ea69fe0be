"""How each sample of a solve ended."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# What a code stands for is its place here.
_WORDS = ("converged", "out of steps", "not finite", "rejected by check", "stopped early")
_CONVERGED, _OUT_OF_STEPS, _NOT_FINITE, _REJECTED, _STOPPED_EARLY = range(len(_WORDS))


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """How each sample of a solve ended. It prints as counts; its properties are masks (B,), one of them true a sample.

        sol.outcome                    # Outcome(6 converged, 1 out of steps, 1 not finite)
        sol.outcome[7]                 # 'not finite'
        sol.value[sol.outcome.not_finite]

    Attributes:
        code: (B,) int64, an index into the words it prints.
    """

    code: Tensor

    @property
    def converged(self) -> Tensor:
        """(B,) bool: the residual is within the tolerance; nobody's is without one."""
        return self.code == _CONVERGED

    @property
    def out_of_steps(self) -> Tensor:
        """(B,) bool: all steps were used without that; without a tolerance, every sample that stayed finite."""
        return self.code == _OUT_OF_STEPS

    @property
    def not_finite(self) -> Tensor:
        """(B,) bool: the residual became infinite or NaN; the value is the best state before that."""
        return self.code == _NOT_FINITE

    @property
    def rejected(self) -> Tensor:
        """(B,) bool: within the tolerance of f, but not of the `check` given to `fixed_point`."""
        return self.code == _REJECTED

    @property
    def stopped_early(self) -> Tensor:
        """(B,) bool: given up before the last step, as `released_fixed_point` does where it stalls or diverges."""
        return self.code == _STOPPED_EARLY

    @classmethod
    def of(cls, converged: Tensor, finite: Tensor) -> Self:
        """From masks (B,): whose residual is within the tolerance, and whose last one was finite."""
        return cls(torch.where(finite, _OUT_OF_STEPS, _NOT_FINITE).masked_fill(converged, _CONVERGED))

    @classmethod
    def of_all(cls, samples: int, *, converged: bool, device: torch.device) -> Self:
        """Where all `samples` converged, or none did and all are finite."""
        return cls(torch.full((samples,), _CONVERGED if converged else _OUT_OF_STEPS, device=device))

    def __len__(self) -> int:
        return len(self.code)

    def __iter__(self) -> Iterator[str]:
        return iter([_WORDS[code] for code in self.code.tolist()])

    def __getitem__(self, sample: int) -> str:
        return _WORDS[int(self.code[sample])]

    def counts(self) -> dict[str, int]:
        """How many samples ended in which way, by the words of the ways that occur."""
        counts = torch.bincount(self.code, minlength=len(_WORDS)).tolist()
        return {word: count for word, count in zip(_WORDS, counts, strict=True) if count}

    def __repr__(self) -> str:
        return f"Outcome({', '.join(f'{count} {word}' for word, count in self.counts().items())})"


def checked(outcome: Outcome, converged: Tensor) -> Outcome:
    """The outcome where another f has judged who `converged` (B,)."""
    code = torch.where(outcome.converged, _REJECTED, outcome.code)
    return Outcome(code.masked_fill(converged, _CONVERGED))


def stopped_early(outcome: Outcome) -> Outcome:
    """The outcome of a solve that did not go on to its last step."""
    return Outcome(torch.where(outcome.out_of_steps, _STOPPED_EARLY, outcome.code))
