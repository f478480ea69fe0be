"""Measures path independence (Anil et al., NeurIPS 2022): whether answers depend only on the fixed point.

An attracting fixed point is reached from any initialisation, does not change with further evaluations, and has a
spectral radius of the Jacobian below 1. A residual alone shows none of this: the residual of a whole state hides its
small parts, and with a radius near 1 it does not bound the distance to the fixed point.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.layer import Solver
from deq_core.experiment.seeding import derive
from deq_core.experiment.study import solves
from deq_core.experiment.study.problem import Problem, chosen, elsewhere, first_within, follow
from deq_core.experiment.tables import Row, numbers, statistic

WHOLE = "state"
"""Name of the residual of the whole state."""
EVERY = "every part"
"""Name of the largest residual of any part."""
STARTS = ("random", "other")
"""Initialisations besides zero: a random state, and the final state of another sample."""
SAFE = 0.95
"""Spectral radius below which a map counts as contracting: 1 minus a margin, since the estimate may be too low."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Configuration of a study of path independence."""

    evaluations: int
    """N. Solves have 2N evaluations, and a sample counts as converged if it converged within N."""
    solvers: dict[Name, Solver]
    """Solvers by name."""
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    """Relative residuals, of the whole state and of every part, at which convergence is counted."""
    settings: dict[Name, solves.Setting] = field(default_factory=dict)
    """Additional solves with practical stopping rules, by name."""
    every: int = 1
    """Every how many batches the additional solves run, from the first batch on."""
    samples: int
    """Number of samples, evenly spaced over a set."""
    batch_size: int = 8
    arnoldi: int = 30
    """Number of Jacobian products to estimate the spectral radius; see `deq_core.nn.spectral_radius`."""
    seed: Seed = 0
    """Seed of the random initial states."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        counts = (self.evaluations, self.samples, self.batch_size, self.every, self.threads)
        if min(counts) < 1 or self.arnoldi < 2:
            raise ValueError(
                "expected evaluations, samples, batch_size, every and threads of at least 1 and arnoldi of at least 2, "
                f"got {', '.join(map(str, counts))} and {self.arnoldi}"
            )
        if not self.solvers or not self.tolerances or not min(self.tolerances) > 0:
            raise ValueError("expected a solver, and tolerances, all above 0")

    @property
    def recorded(self) -> tuple[int, ...]:
        """Numbers of evaluations after which answers are recorded: 1, 2, 3, 4, 6, 8, 12, ... below 2N, N and 2N."""
        steps = {2**power * odd for power in range(12) for odd in (1, 3)} | {self.evaluations, 2 * self.evaluations}
        return tuple(sorted(step for step in steps if step <= 2 * self.evaluations))


class Followed:
    """Measurements of the samples of one set, batch by batch."""

    def __init__(self, config: Paths) -> None:
        self.config = config
        self.batches = 0
        self.samples: list[Row] = []
        """One row for each sample, the input of `summary`."""
        self.residuals: defaultdict[tuple[str, str], list[Tensor]] = defaultdict(list)
        """(solver, part) -> residuals (evaluations, B) of each batch, starting from zero."""
        self.answers: defaultdict[tuple[str, int, str], list[Tensor]] = defaultdict(list)
        """(solver, evaluations, quantity) -> values (B,) of each batch."""

    @torch.no_grad()
    def add(self, problem: Problem) -> None:
        """Solves a batch from every initialisation with every solver, and records it.

        Raises:
            NonFiniteError: an answer is not finite.
        """
        config, rows = self.config, [{"name": name} for name in problem.names]
        best, lowest = problem.zero, torch.full((len(rows),), torch.inf, device=problem.zero[0].device)
        for name, solver in config.solvers.items():
            generator = torch.Generator().manual_seed(derive(config.seed, len(self.samples)))
            cold = follow(problem, problem.zero, solver, 2 * config.evaluations, config.recorded)
            found = self._answers(problem, cold.answers)
            for start, state in elsewhere(problem, cold.last, generator).items():
                warm = follow(problem, state, solver, 2 * config.evaluations, config.recorded)
                for step, answer in warm.answers.items():
                    found[step][start] = problem.distance(answer, cold.answers[step])
            for step, quantities in found.items():
                for quantity, values in quantities.items():
                    self.answers[name, step, quantity].append(values)
            for place, part in enumerate((*problem.parts, WHOLE) if len(problem.parts) > 1 else (WHOLE,)):
                self.residuals[name, part].append(cold.residuals[..., place])
            for row, more in zip(rows, self._of_samples(name, found, cold.residuals), strict=True):
                row |= more
            better = cold.found.residual < lowest
            best = chosen(better, cold.found.value, best)
            lowest = torch.minimum(cold.found.residual, lowest)
        generator = torch.Generator().manual_seed(config.seed)
        radius = deq.nn.spectral_radius(problem.f, best, iterations=config.arnoldi, generator=generator)
        ended = solves.solved(problem, {} if self.batches % config.every else config.settings)
        self.batches += 1
        self.samples += [
            {**row, "radius": value, **more} for row, value, more in zip(rows, radius.tolist(), ended, strict=True)
        ]

    def _answers(self, problem: Problem, answers: Mapping[int, Tensor]) -> dict[int, dict[str, Tensor]]:
        """{evaluations k: {`error`, and `change` from k to 2k evaluations}} of a cold solve."""
        found: dict[int, dict[str, Tensor]] = {step: {"error": problem.error(answers[step])} for step in answers}
        for step in answers:
            if 2 * step in answers:
                found[step]["change"] = problem.distance(answers[step], answers[2 * step])
        return found

    def _of_samples(self, solver: str, found: Mapping[int, Mapping[str, Tensor]], residuals: Tensor) -> list[Row]:
        """One row for each sample, with columns `solver.quantity`.

        `change` is from N to 2N evaluations; `error_twice` and the distances between initialisations are at 2N. For
        each tolerance a column has the first evaluation with a residual within it, None if there is none.
        """
        count = self.config.evaluations
        columns = {
            "error": found[count]["error"],
            "error_twice": found[2 * count]["error"],
            "change": found[count]["change"],
            **{start: found[2 * count][start] for start in STARTS if start in found[2 * count]},
        }
        lists = {f"{solver}.{name}": values.tolist() for name, values in columns.items()}
        judged = {WHOLE: residuals[..., -1], EVERY: residuals[..., :-1].amax(-1)}
        for what, values in judged.items() if residuals.shape[-1] > 2 else [(WHOLE, judged[WHOLE])]:
            for tolerance in self.config.tolerances:
                lists[f"{solver}.{what}.{tolerance:g}"] = first_within(values, tolerance)
        return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]

    def tables(self, **key: str) -> dict[str, list[Row]]:
        """Tables `samples`, `residuals` (geometric means after each evaluation) and `answers` (means after some).

        Each row starts with `key`.
        """
        residuals = [
            {**key, "solver": solver, "part": part, "evaluation": step, "residual": value}
            for (solver, part), batches in self.residuals.items()
            for step, value in enumerate(torch.cat(batches, dim=1).double().log().mean(1).exp().tolist(), start=1)
        ]
        answers: dict[tuple[str, int], Row] = {}
        for (solver, step, quantity), batches in self.answers.items():
            row = answers.setdefault((solver, step), {**key, "solver": solver, "evaluation": step})
            row[quantity] = float(torch.cat(batches).double().mean())
        samples: list[Row] = [{**key, **row} for row in self.samples]
        return {"samples": samples, "residuals": residuals, "answers": list(answers.values())}

    def summary(self) -> dict[str, float]:
        """Metrics of the set: median radius, means of errors and distances, shares of samples.

        `contracting` is the share of radii below `SAFE`; `solver.what.tolerance` is the share of samples that converged
        within N evaluations. For the additional solves see `solves.summary`.
        """
        radii = numbers(self.samples, "radius")
        found: dict[str, float] = {
            "samples": len(radii),
            "evaluations": self.config.evaluations,
            "radius": median(radii),
            "contracting": statistic([float(radius < SAFE) for radius in radii]).mean,
        }
        for solver in self.config.solvers:
            for quantity in ("error", "error_twice", "change", *STARTS):
                name = f"{solver}.{quantity}"
                if having := [row for row in self.samples if name in row]:
                    found[name] = statistic(numbers(having, name)).mean
            for what in (WHOLE, EVERY):
                for tolerance in self.config.tolerances:
                    name = f"{solver}.{what}.{tolerance:g}"
                    if steps := [row[name] for row in self.samples if name in row]:
                        within = [isinstance(step, int) and step <= self.config.evaluations for step in steps]
                        found[name] = sum(within) / len(within)
        return found | solves.summary(self.samples)
