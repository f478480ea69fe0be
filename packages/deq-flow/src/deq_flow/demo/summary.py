"""Results of a demo in numbers: a row for each flow, means, and warnings."""

import time
from collections.abc import Sequence
from math import isfinite
from typing import Any, get_args

from deq_flow.demo.follow import Estimate, Reason


class Summary:
    """Rows and sums over a video."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.iterations = 0.0
        self.residuals: list[float] = []
        """Finite residuals, if the network has any."""
        self.began = time.perf_counter()

    def add(self, estimate: Estimate) -> None:
        """Adds an estimate."""
        self.rows.append({"frame": self.count + 1, **row_of(estimate)})
        self.iterations += estimate.iterations
        if estimate.residual is not None and isfinite(estimate.residual):
            self.residuals.append(estimate.residual)

    @property
    def count(self) -> int:
        """Number of estimates."""
        return len(self.rows)

    def marked(self, reason: Reason) -> list[int]:
        """Frames, from 1, with that warning."""
        return [row["frame"] for row in self.rows if row["warning"] == reason]

    def newest(self, estimate: Estimate) -> dict[str, float]:
        """The values that progress shows."""
        values = {"iterations": estimate.iterations, "mean": self.iterations / self.count}
        return values if estimate.residual is None else {**values, "residual": estimate.residual}

    def values(self) -> dict[str, float]:
        """Numbers of estimates, cold starts and warnings, and means."""
        values = {
            "estimates": self.count,
            "cold": sum(row["start"] == "cold" for row in self.rows),
            "warnings": sum(row["warning"] is not None for row in self.rows),
            "fps": self.count / (time.perf_counter() - self.began),
            "iterations": self.iterations / self.count,
        }
        if self.residuals:
            values["residual"] = sum(self.residuals) / len(self.residuals)
        return values

    def warnings(self, side: int | None) -> list[str]:
        """A sentence for each reason, with the number of flows, their frames, and what to do; `side` is the option."""
        seen = "as they are" if side is None else f"of at most {side} pixels a side"
        other = f"try another --side (the network saw frames {seen}) or --checkpoint"
        told = {
            "not finite": "the network diverged: try another --checkpoint",
            "scene cut": "their two frames show different scenes, so no flow is correct; leave them out",
            "worse than no motion": f"zero flow explains their frames better than the network's flow: {other}",
            "suddenly worse": f"they explain their frames much worse than the flows before them: {other}",
            "not converged": f"the residual is much larger than usual in the video: try more --steps, or {other[4:]}",
        }
        counted = {reason: self.marked(reason) for reason in get_args(Reason)}
        said = [
            f"{len(frames)} of {self.count} flows marked `{reason}` (from frame {listed(frames)}): {told[reason]}"
            for reason, frames in counted.items()
            if frames
        ]
        if back := [row["frame"] for row in self.rows if "backward" in row and row["backward"]["warning"] is not None]:
            said.append(
                f"{len(back)} of {self.count} backward flows are unreliable (to frame {listed(back)}), and so are "
                f"occlusion and confidence there: {other}"
            )
        return said


def row_of(estimate: Estimate) -> dict[str, Any]:
    """The row of an estimate in `demo.json`."""
    row = {**numbers_of(estimate), "start": estimate.start, "warning": estimate.warning}
    if estimate.backward is None:
        return row
    return {**row, "backward": {**numbers_of(estimate.backward), "warning": estimate.backward.warning}}


def numbers_of(estimate: Estimate) -> dict[str, Any]:
    """The numbers of an estimate, with None for those that are missing or not finite."""
    return {
        "iterations": estimate.iterations,
        "residual": finite(estimate.residual),
        "flow_residual": finite(estimate.flow_residual),
        **({"coarser": [finite(one) for one in estimate.coarser]} if estimate.coarser else {}),
        "error": finite(estimate.error),
        "still": estimate.still,
    }


def finite(value: float | None) -> float | None:
    """The value, or None if it is not finite, which JSON cannot express."""
    return value if value is not None and isfinite(value) else None


def listed(frames: Sequence[int]) -> str:
    """The first ten frames, and the number of further ones."""
    more = len(frames) - 10
    return ", ".join(map(str, frames[:10])) + (f" and {more} more" if more > 0 else "")
