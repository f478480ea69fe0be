"""How the delta rule is studied, as params.yaml writes it."""

from dataclasses import dataclass
from typing import Literal

from deq_core.experiment.config.layer import Solver, StopConfig
from deq_core.experiment.config.loading import Once


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The delta rule and its thresholds; see `deq_core.delta.to_delta`."""

    thresholds: Once[float]
    """Changes up to this size are skipped; each threshold is one solve of all pairs."""
    reference: Literal["seen", "sent"] = "seen"
    """What a change is measured against: "seen", the last input, is the release's rule."""
    relative: bool = False
    """Whether thresholds are shares of the root mean square of a layer's input."""
    refresh_every: int | None = None
    """Evaluations from one dense one to the next; None is none but the first."""

    def __post_init__(self) -> None:
        if any(threshold < 0 for threshold in self.thresholds):
            raise ValueError(f"thresholds: expected numbers of at least 0, got {list(self.thresholds)}")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A solver, and the delta rule within its evaluations."""

    solver: Solver
    stop: StopConfig
    """Of solves under the rule; a tolerance is measured by the delta cell itself."""
    rule: Rule
