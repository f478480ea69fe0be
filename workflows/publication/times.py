"""What the jobs of each pipeline took, for docs/reproducibility.md: `python -m workflows.publish times`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.core.pages import markdown

from workflows import live
from workflows.engines import graph, parameters
from workflows.publication import runs


def measured(results: Path) -> dict[str, dict[str, Any]]:
    """By pipeline, what its jobs took when the results below `results` were made, and its budget.

    Raises:
        SystemExit: a job has no time, or another than that of the run that wrote the results.
    """
    profile = parameters.load()
    rules = graph.rules(profile)
    jobs = live.jobs_of(rules)
    times, made = live.last_times(), list(runs.behind(results).values())
    if missing := [job for of_pipeline in jobs.values() for job in of_pipeline if job not in times]:
        raise SystemExit(
            f"{live.TIMES}: expected the time of every job, but has none of {missing[0]} and {len(missing) - 1} "
            "others; `make reproduce` in a fresh clone, on a machine without other work, measures them"
        )
    if others := [one.name for one in made if one.seconds > times.get(one.name, math.inf)]:
        raise SystemExit(
            f"{live.TIMES}: expected the times of the runs that wrote these results, but {others[0]} and "
            f"{len(others) - 1} others took longer; `make reproduce` in a fresh clone measures them"
        )
    found = runs.costs(live.by_pipeline(times, jobs), made)
    if unknown := [name for name, of in found.items() if math.isnan(of["around"])]:
        raise SystemExit(f"{unknown[0]}: expected its runs in the tracking store, found none that wrote these results")
    budgets, chains = live.budgets_of(profile), live.longest_chains(rules, times)
    more = {name: {"budget": budgets.get(name), "chain_minutes": chains[name] / 60} for name in found}
    return {name: {**of, **more[name]} for name, of in found.items()}


def table(found: Mapping[str, Any]) -> str:
    """The table of the times of each pipeline's jobs on one core, and its budget if it has one."""
    heads = ["pipeline", "jobs", "minutes", "budget", "around programs, %", "longest chain"]
    every, budgets = list(found.values()), [of["budget"] for of in found.values() if of["budget"] is not None]
    total: dict[str, float] = {key: sum(of[key] for of in every) for key in ("jobs", "minutes")}
    total["around"] = sum(of["around"] * of["minutes"] for of in every) / total["minutes"]
    total["chain_minutes"] = max(of["chain_minutes"] for of in every)
    lines = [
        [*row(name, of), f"`{of['longest']}`", f"{of['longest_minutes']:.1f}", f"{of['gigabytes']:.2f}"]
        for name, of in found.items()
    ]
    last = [*row("all", {**total, "budget": sum(budgets) or None}), "", "", ""]
    return markdown([*heads, "longest job", "its minutes", "most memory of a job, GB"], [*lines, last])


def row(name: str, of: Mapping[str, Any]) -> list[str]:
    """Jobs, minutes, budget, time around the programs and longest chain of a pipeline."""
    budget = "" if of["budget"] is None else f"{of['budget']:.0f}"
    minutes, chain, around = f"{of['minutes']:.0f}", f"{of['chain_minutes']:.0f}", f"{100 * of['around']:.0f}"
    return [name, f"{of['jobs']:.0f}", minutes, budget, around, chain]
