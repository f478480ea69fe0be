"""Configuration of the delta rule in a study."""

from dataclasses import dataclass
from typing import Literal

from deq_core.experiment.config.layer import Solver, StopConfig
from deq_core.experiment.config.loading import Once


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The delta rule and its thresholds; see `deq_core.delta.to_delta`."""

    thresholds: Once[float]
    """Thresholds to study: changes up to this size are skipped. All pairs are solved once at each threshold."""
    reference: Literal["seen", "sent"] = "seen"
    """What a change is measured against: the last input ("seen", as in the release), or the last one sent ("sent")."""
    relative: bool = False
    """Whether thresholds are relative to the root mean square of a layer's input."""
    refresh_every: int | None = None
    """Period of dense evaluations; with None only the first evaluation is dense."""

    def __post_init__(self) -> None:
        if any(threshold < 0 for threshold in self.thresholds):
            raise ValueError(f"thresholds: expected numbers of at least 0, got {list(self.thresholds)}")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A solver whose evaluations follow the delta rule."""

    solver: Solver
    stop: StopConfig
    """Stop of the solves under the rule. A tolerance applies to residuals of the delta cell."""
    rule: Rule
