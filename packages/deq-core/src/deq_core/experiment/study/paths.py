"""Whether a network's answer is that of a fixed point, or of the path to it.

A fixed point that solves lead to is found from any start, stays where it is when a solve goes on, and attracts: the
spectral radius of the map there is below 1. A residual alone tells none of it: that of a whole state hides its small
parts, and near a radius of 1 it says nothing of how far the fixed point is. Path independence is that of Anil et al.
(NeurIPS 2022).
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
"""What the residual of all parts together is called."""
EVERY = "every part"
"""And the largest of the parts' own."""
STARTS = ("random", "other")
"""Besides zero: a random state, and that which another sample has come to."""
SAFE = 0.95
"""A spectral radius below which a map is taken to contract: 1, less what the estimate may be short of."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """How networks are followed to their fixed points."""

    evaluations: int
    """N: solves have 2N, and a sample counts as converged that was so within N."""
    solvers: dict[Name, Solver]
    """By what they are called."""
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    """Relative residuals, of the whole state and of every part of it."""
    settings: dict[Name, solves.Setting] = field(default_factory=dict)
    """By what they are called: solves besides, which end where those in use do."""
    every: int = 1
    """Of how many batches one is solved by the settings, the first and every so many after it."""
    samples: int
    """Of a set, evenly spaced over it."""
    batch_size: int = 8
    arnoldi: int = 30
    """Products with the Jacobian by which the spectral radius is found; see `deq_core.nn.spectral_radius`."""
    seed: Seed = 0
    """Of the random starts."""
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
        """The evaluations after which answers are looked at: 1, 2, 3, 4, 6, 8, 12, ..., N, and the double of each."""
        steps = {2**power * odd for power in range(12) for odd in (1, 3)} | {self.evaluations, 2 * self.evaluations}
        return tuple(sorted(step for step in steps if step <= 2 * self.evaluations))


class Followed:
    """What was measured of the samples of one set, batch by batch."""

    def __init__(self, config: Paths) -> None:
        self.config = config
        self.batches = 0
        self.samples: list[Row] = []
        """A row a sample: what `summary` is made of."""
        self.residuals: defaultdict[tuple[str, str], list[Tensor]] = defaultdict(list)
        """(solver, part) to (evaluations, B) of each batch, from zero."""
        self.answers: defaultdict[tuple[str, int, str], list[Tensor]] = defaultdict(list)
        """(solver, evaluations, quantity) to (B,) of each batch."""

    @torch.no_grad()
    def add(self, problem: Problem) -> None:
        """Follows the samples of a batch, from every start and by every solver.

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
        """Of a cold solve, by evaluations k: `error`, and `change` up to 2k evaluations."""
        found: dict[int, dict[str, Tensor]] = {step: {"error": problem.error(answers[step])} for step in answers}
        for step in answers:
            if 2 * step in answers:
                found[step]["change"] = problem.distance(answers[step], answers[2 * step])
        return found

    def _of_samples(self, solver: str, found: Mapping[int, Mapping[str, Tensor]], residuals: Tensor) -> list[Row]:
        """A row a sample, its columns named `solver.quantity`.

        `change` is that from N to 2N evaluations, `error_twice` and the distances of starts are at 2N; and for each
        tolerance the evaluation at which a residual first was within it, None where none was.
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
        """`samples`; `residuals`, geometric means over samples after each evaluation; `answers`, means after some.

        Each row begins with `key`.
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
        """Numbers of the set: the median radius, means of errors and distances, shares of the samples.

        `contracting` is the share of radii below `SAFE`, and `solver.what.tolerance` that of samples that converged
        within N evaluations; of other solves see `solves.summary`.
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
