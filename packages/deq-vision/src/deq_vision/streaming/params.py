"""Evaluation of streaming in params.yaml."""

from dataclasses import dataclass, field
from typing import Literal

from deq_core.experiment.config.layer import Solver, StopConfig


@dataclass(frozen=True, kw_only=True)
class StreamEvaluate:
    """Compares warm starts on videos with cold starts of the same evaluations and with the converged baseline.

    The protocol of StreamDEQ on Cityscapes is `budgets` 1, 2, 4, 8 with `before` 19 and the split val; on VID, all
    frames of the videos.
    """

    budgets: tuple[int, ...]
    """Numbers of evaluations of f per frame, each for a warm and a cold run."""
    converged: StopConfig
    """Stopping rule of the baseline, which starts every frame from zeros."""
    adaptive: dict[str, StopConfig] = field(default_factory=dict)
    """Further warm runs by name, whose number of evaluations depends on the residual."""
    cut: float | None = None
    """Threshold of a scene cut in the adaptive runs; see `StreamDEQ`. The paper has no detection of cuts."""
    solver: Solver | None = None
    """Solver of all runs; None is the model's own."""
    split: Literal["val", "test"] = "test"
    """Split to measure: val to choose settings, test once they are chosen."""
    before: int = 19
    """Number of frames of a Cityscapes snippet before the annotated one."""
    after: int = 0
    """Number of frames after the annotated one, up to 10; only the mini set has labels for them."""
    settled: int = 5
    """Index, from 0, of the first frame of a video at which a warm state counts as settled."""
    streams: int = 8
    """Number of videos fed at a time, one frame of each in a batch."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 1 or len(set(self.budgets)) != len(self.budgets):
            raise ValueError(f"budgets: expected different numbers of at least 1, got {list(self.budgets)}")
        if min(self.streams, self.threads) < 1 or min(self.settled, self.before, self.after) < 0:
            raise ValueError(
                f"expected streams and threads of at least 1, settled, before and after of at least 0, got {self}"
            )
        for name, stop in self.adaptive.items():
            if stop.tol is None and not stop.parts:
                raise ValueError(f"adaptive.{name}: needs a tol; without one it is the budget {stop.max_steps}")
