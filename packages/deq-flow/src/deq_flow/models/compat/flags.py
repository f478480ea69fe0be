"""The command-line flags of the released DEQ-Flow programs, as an `Equilibrium`."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any, Literal

import deq_core as deq
from deq_flow.config import Equilibrium
from deq_flow.models.adjoints import SupervisedPhantom
from deq_flow.models.compat.numerics import Release, ReleasedImplicit, rule_of

_DEFAULTS: dict[str, dict[str, Any]] = {
    "v1": {
        "f_solver": "anderson",
        "b_solver": "broyden",
        "f_thres": 36,
        "b_thres": 36,
        "stop_mode": "abs",
        "sliced_core": False,
        "eval_factor": 1.5,
        "n_losses": 1,
        "indexing": (),
        "phantom_grad": (1,),
        "tau": 1.0,
        "sup_all": False,
        "ift": False,
        "safe_ift": False,
        "wnorm": False,
    }
}
_DEFAULTS["v2"] = {
    **{name: value for name, value in _DEFAULTS["v1"].items() if name not in ("stop_mode", "sliced_core")},
    "f_thres": 40,
    "b_thres": 40,
    "f_eps": 1e-3,
    "b_eps": 1e-3,
    "f_stop_mode": "abs",
    "b_stop_mode": "abs",
    "indexing_core": False,
    "eval_f_thres": 0,
    "all_grad": False,
}


def equilibrium_of(release: Literal["v1", "v2"], flags: Mapping[str, Any]) -> Equilibrium:
    """The `Equilibrium` of the released program with `flags`, named without dashes; missing ones have its defaults.

    Budgets become numbers of evaluations of the update; the released Broyden makes one more than its `f_thres`.
    Raises ValueError for flags that the program does not have, or whose values are inconsistent.
    """
    if unknown := sorted(flags.keys() - _DEFAULTS[release].keys()):
        raise ValueError(f"{release} has no flag {', '.join(unknown)}; it has {', '.join(_DEFAULTS[release])}")
    given = {**_DEFAULTS[release], **flags}
    rule_of(release, solver_of(given["f_solver"]))  # raises for a solver that the program does not have
    sliced = given["sliced_core"] if release == "v1" else not given["indexing_core"]
    budgets = _slices(given)
    if sliced:  # in one solve, also Broyden records the best state after exactly so many evaluations
        budgets = [evaluations(given["f_solver"], budget) for budget in budgets]
    ends = [*accumulate(budgets)]
    relative = given.get("f_stop_mode", given.get("stop_mode")) == "rel"
    tol = given.get("f_eps", 1e-6 if relative else 1e-3)
    in_evaluation = given.get("eval_f_thres") or int(given["f_thres"] * given["eval_factor"])
    return Equilibrium(
        solver=solver_of(given["f_solver"]),
        stop=deq.Stop(ends[-1], tol=tol, relative=relative),
        eval_stop=deq.Stop(evaluations(given["f_solver"], in_evaluation), tol=tol, relative=relative),
        adjoint=_adjoints(release, given, len(ends)),
        correction=tuple(ends[:-1]),
        chaining=("resumed" if release == "v1" else "sliced") if sliced else "indexing",
        flow_gradient="full" if given.get("all_grad") else "detached",
        unknown="position",
        returned=release,
        weight_norm=given["wnorm"],
    )


def solver_of(name: str) -> deq.Solver:
    """The solver of that name in the releases, with their settings."""
    solvers: dict[str, deq.Solver] = {
        "anderson": deq.Anderson(window=6, ridge=1e-4, relative_ridge=False),
        "broyden": deq.Broyden(),
        "naive_solver": deq.FixedPointIteration(),
    }
    if name not in solvers:
        raise ValueError(f"no release has a solver {name!r}; there are {', '.join(solvers)}")
    return solvers[name]


def evaluations(solver: str, budget: int) -> int:
    """Number of evaluations that a released solver makes with a budget (`f_thres`)."""
    return budget + 1 if solver == "broyden" else budget


def _slices(given: Mapping[str, Any]) -> list[int]:
    """The budget from each supervised state to the next."""
    if given["n_losses"] > 1:
        return [given["f_thres"] // given["n_losses"]] * given["n_losses"]
    ends = [0, *given["indexing"], given["f_thres"]]
    return [last - first for first, last in pairwise(ends)]


def _adjoints(release: Release, given: Mapping[str, Any], states: int) -> deq.Adjoint | tuple[deq.Adjoint, ...]:
    steps, damping = tuple(given["phantom_grad"]), 1 - given["tau"]
    if len(steps) not in (1, states):
        raise ValueError(f"phantom_grad must be one number, or one for each of {states} losses, got {steps}")
    kind = SupervisedPhantom if given["sup_all"] else deq.Phantom
    adjoints: list[deq.Adjoint] = [
        kind(count, damping) for count in (steps if len(steps) == states else steps * states)
    ]
    if given["ift"]:
        relative = given.get("b_stop_mode", given.get("stop_mode")) == "rel"
        stop = deq.Stop(evaluations(given["b_solver"], given["b_thres"]), given.get("b_eps", 1e-3), relative)
        adjoints[-1] = ReleasedImplicit(solver_of(given["b_solver"]), stop, release, safe=given["safe_ift"])
    return adjoints[0] if states == 1 else tuple(adjoints)
