"""Cost and error of solves with practical stopping rules: released settings, and solvers at several tolerances."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

import deq_core as deq
from deq_core.experiment.config.layer import Solver
from deq_core.experiment.study.problem import Problem
from deq_core.experiment.tables import Row, numbers, statistic

PREFIX = "solve"
"""Prefix of this module's metrics, `solve.setting.tolerance.quantity`."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A solver with its stopping rules."""

    solver: Solver
    evaluations: int
    """Maximum number of evaluations."""
    tolerances: tuple[float, ...]
    """Tolerances on the residual of the whole state, one solve for each."""
    relative: bool = True
    """Whether residuals are relative to the norm of f(z) or absolute."""

    def __post_init__(self) -> None:
        if self.evaluations < 1 or not self.tolerances or not min(self.tolerances) > 0:
            raise ValueError(f"expected an evaluation at least, and tolerances, all above 0, got {self}")


@torch.no_grad()
def solved(problem: Problem, settings: Mapping[str, Setting]) -> list[Row]:
    """One row for each sample, solved from zero by each setting to each tolerance.

    Columns: `evaluations` of f until the sample converged, or the maximum; `ms`, its share of the batch's time;
    `converged`, 1 or 0; and the `error` of its answer.
    """
    rows: list[Row] = [{} for _ in problem.names]
    for name, setting in settings.items():
        for tolerance in setting.tolerances:
            stop = deq.Stop(setting.evaluations, tolerance, relative=setting.relative)
            began = now(problem.zero[0].device)
            found = deq.fixed_point(problem.f, problem.zero, solver=setting.solver, stop=stop, on_failure="ignore")
            spent = 1000 * (now(problem.zero[0].device) - began) / len(rows)
            columns = {
                "evaluations": found.steps.where(found.converged, setting.evaluations).tolist(),
                "ms": [spent] * len(rows),
                "converged": found.converged.long().tolist(),
                "error": problem.error(problem.answer(*found.value)).tolist(),
            }
            for quantity, values in columns.items():
                for row, value in zip(rows, values, strict=True):
                    row[f"{PREFIX}.{name}.{tolerance:g}.{quantity}"] = value
    return rows


def now(device: torch.device) -> float:
    """Seconds of process time on a CPU (unaffected by other programs), of wall-clock time on a GPU."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def summary(samples: Sequence[Row]) -> dict[str, float]:
    """Means (of times: medians) over samples with the columns of `solved`, and their number; empty if none has them."""
    having = [{name: row[name] for name in row if name.startswith(f"{PREFIX}.")} for row in samples]
    having = [row for row in having if row]
    if not having:
        return {}
    columns = {name: numbers(having, name) for name in having[0]}
    means = {name: median(row) if name.endswith(".ms") else statistic(row).mean for name, row in columns.items()}
    return {f"{PREFIX}.samples": len(having), **means}
