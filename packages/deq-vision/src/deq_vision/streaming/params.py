"""How streaming is measured, as `params.yaml` has it."""

from dataclasses import dataclass, field
from typing import Literal

from deq_core.experiment.config.layer import Solver, StopConfig


@dataclass(frozen=True, kw_only=True)
class StreamEvaluate:
    """Warm starts against cold starts with the same evaluations and against the converged baseline, on videos.

    The protocol of StreamDEQ on Cityscapes is `budgets` 1, 2, 4, 8 with `before` 19 and the split val; on VID, all
    frames of the videos.
    """

    budgets: tuple[int, ...]
    """Evaluations of f that a frame gets, warm and cold."""
    converged: StopConfig
    """Of the baseline, which begins every frame at zeros."""
    adaptive: dict[str, StopConfig] = field(default_factory=dict)
    """Further warm runs by name, whose evaluations follow the residual."""
    cut: float | None = None
    """What makes a scene cut in the adaptive runs; see `StreamDEQ`. The paper's runs look for none."""
    solver: Solver | None = None
    """Of all runs; None is the model's own."""
    split: Literal["val", "test"] = "test"
    """Settings are chosen on val; test is measured once they are."""
    before: int = 19
    """Frames of a Cityscapes snippet before the annotated one."""
    after: int = 0
    """Frames behind it, up to 10: only the mini set has their labels."""
    settled: int = 5
    """Frames from this one of a video on, counted from 0, are those in which a warm state has settled."""
    streams: int = 8
    """Videos that are shown at a time, one frame of each in a batch."""
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
                raise ValueError(f"adaptive.{name}: needs a tol, or it is a budget of {stop.max_steps}")
