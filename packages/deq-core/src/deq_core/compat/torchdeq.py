"""Configurations of torchdeq as layers of this library."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from torch import nn

from .._adjoints.base import Adjoint
from .._adjoints.implicit import Implicit
from .._adjoints.phantom import Phantom
from .._solve.stop import Stop
from .._solvers import Anderson, Broyden, FixedPointIteration, LineSearchBroyden, Solver
from ..nn.layer import DEQ
from ..nn.spectral_norm import spectral_norm_
from ..nn.weight_norm import weight_norm_

# name → torchdeq 0.1's default
_KNOWN: dict[str, Any] = {
    "core": "sliced",
    "f_solver": "fixed_point_iter",
    "b_solver": "fixed_point_iter",
    "no_stat": None,  # whether statistics of solves are skipped; ours cost nothing
    "f_max_iter": 40,
    "b_max_iter": 40,
    "f_tol": 1e-3,
    "b_tol": 1e-6,
    "f_stop_mode": "abs",
    "b_stop_mode": "abs",
    "eval_factor": 1.0,
    "eval_f_max_iter": 0,
    "ift": False,
    "hook_ift": False,
    "grad": 1,
    "tau": 1.0,
    "sup_gap": -1,
    "sup_loc": (),
    "n_states": 1,
    "indexing": (),
    "norm_type": "weight_norm",
    "norm_no_scale": False,
    "norm_clip": False,
    "norm_clip_value": 1.0,
    "norm_target_norm": 1.0,
    "sn_n_power_iters": 1,
    "gamma": 0.8,
    "jac_loss_weight": 0.0,
    "jac_loss_freq": 0.0,
    "jac_incremental": 0,
    "sradius_mode": False,
}
# solver → its keys in solver_kwargs
_SOLVER_OPTIONS: dict[str, tuple[str, ...]] = {
    "fixed_point_iter": ("tau",),
    "simple_fixed_point_iter": ("tau",),
    "anderson": ("m", "lam", "tau"),
    "broyden": ("LBFGS_thres", "ls"),
}


@dataclass(frozen=True)
class TorchDEQ:
    """A torchdeq configuration in the terms of this library.

    Attributes:
        layers: one layer for each solve. Several are torchdeq's slices: each starts from `value.detach()` of the one
            before, and all their values are supervised.
        record: steps of the indexed states, for `layers[0](f, z0, record=record)` in training.
        norm: function to call with the cell, and optionally names to skip: `weight_norm_` or `spectral_norm_` with the
            options of the configuration, or one that changes nothing.
        gamma: the argument of `exponential_weights`.
        jac_loss_weight, jac_loss_freq: weight and probability of the `jacobian_frobenius` term.
        jac_incremental: number of training steps after each of which torchdeq's examples add 0.1 to that weight; 0 is
            never.
        sradius_mode: whether validation measures `spectral_radius`.
    """

    layers: tuple[DEQ, ...]
    record: tuple[int, ...]
    norm: Callable[..., nn.Module]
    gamma: float
    jac_loss_weight: float
    jac_loss_freq: float
    jac_incremental: int
    sradius_mode: bool


def from_torchdeq(args: Any, solver_kwargs: Mapping[str, Any] | None = None) -> TorchDEQ:
    """The layers and settings of a torchdeq 0.1 configuration, with its numerics.

    Args:
        args: torchdeq's options, as a mapping or an object with attributes (`argparse.Namespace`); missing ones have
            its defaults. It is not changed.
        solver_kwargs: those of its call `deq(f, z0, solver_kwargs=...)`: `m`, `lam`, `tau`, `LBFGS_thres`, `ls`.

    Raises:
        ValueError: an unknown option, or a value without counterpart; the message names it.
    """
    given = dict(args) if isinstance(args, Mapping) else dict(vars(args))
    if unknown := sorted(given.keys() - _KNOWN.keys()):
        raise ValueError(f"not options of torchdeq: {unknown}; pass its own options only, which are {sorted(_KNOWN)}")
    options = {name: _plain(given.get(name, default)) for name, default in _KNOWN.items()}
    relative = _choice("f_stop_mode", options, {"abs": False, "rel": True})
    solver = _solver("f_solver", options, solver_kwargs or {})
    steps, sliced = options["f_max_iter"], _choice("core", options, {"sliced": True, "indexing": False})
    ends = _ends(options, sliced)
    lengths = [end - start for start, end in pairwise((0, *ends))] if sliced else [steps]
    if min(lengths) < 1:
        raise ValueError(f"indexing={options['indexing']} must increase and end before f_max_iter={steps}")
    adjoints = _adjoints(options, len(ends))
    if not sliced:
        adjoints = [_one_for_all(adjoints, options)]
    tol = _tolerance("f", options)
    evaluation = Stop(options["eval_f_max_iter"] or int(steps * options["eval_factor"]), tol, relative)
    return TorchDEQ(
        layers=tuple(
            DEQ(solver=solver, stop=Stop(length, tol, relative), adjoint=adjoint, eval_stop=evaluation)
            for length, adjoint in zip(lengths, adjoints, strict=True)
        ),
        record=() if sliced else tuple(ends[:-1]),
        norm=_norm(options),
        gamma=options["gamma"],
        jac_loss_weight=options["jac_loss_weight"],
        jac_loss_freq=options["jac_loss_freq"],
        jac_incremental=options["jac_incremental"],
        sradius_mode=options["sradius_mode"],
    )


def _ends(options: dict[str, Any], sliced: bool) -> list[int]:
    """The steps whose states are supervised, including the last one."""
    steps, states = options["f_max_iter"], options["n_states"]
    if states > steps:
        raise ValueError(f"n_states={states} asks for more states than f_max_iter={steps} steps")
    if states <= 1:
        return [*options["indexing"], steps]
    every = steps // states
    if sliced or steps % states == 0:
        return [(k + 1) * every for k in range(states)]
    return [steps - (states - k - 1) * every for k in range(states)]


def _adjoints(options: dict[str, Any], states: int) -> list[Adjoint]:
    """The adjoint of each supervised state."""
    grads = options["grad"] if isinstance(options["grad"], tuple) else (options["grad"],)
    grads = grads * states if len(grads) == 1 else grads
    if len(grads) != states:
        raise ValueError(f"grad={options['grad']} has {len(grads)} values for {states} supervised states")
    supervised = [loc for loc in options["sup_loc"] if not 1 <= loc <= max(grads)]
    if supervised and options["sup_gap"] <= 0:
        raise ValueError(f"sup_loc={options['sup_loc']} names no phantom step: {supervised} of 1 to {max(grads)}")
    adjoints: list[Adjoint] = [_phantom(steps, options) for steps in grads]
    if options["ift"] or options["hook_ift"]:
        relative = _choice("b_stop_mode", options, {"abs": False, "rel": True})
        stop = Stop(options["b_max_iter"], _tolerance("b", options), relative)
        adjoints[-1] = Implicit(_solver("b_solver", options, {}), stop)
    return adjoints


def _phantom(steps: int, options: dict[str, Any]) -> Phantom:
    """The phantom steps, which record those that are supervised."""
    gap, locations, damping = options["sup_gap"], options["sup_loc"], 1 - options["tau"]
    if gap > 0:
        # torchdeq supervises only every gap-th state, and does not use the steps after the last of them.
        if gap > steps:
            raise ValueError(f"sup_gap={gap} is beyond grad={steps}: torchdeq supervises no state at all")
        steps -= steps % gap
        return Phantom(steps, damping, record=tuple(range(gap, steps, gap)))
    if steps in locations:
        raise ValueError(
            f"sup_loc={locations} names the last of grad={steps} steps, which is supervised anyway: torchdeq counts it "
            "twice. Leave it out, and weight that state in your loss"
        )
    return Phantom(steps, damping, record=tuple(sorted({location for location in locations if location < steps})))


def _one_for_all(adjoints: list[Adjoint], options: dict[str, Any]) -> Adjoint:
    """The adjoint of a single solve, whose indexed states are differentiated too."""
    *indexed, last = adjoints
    if isinstance(last, Implicit):
        name = "ift" if options["ift"] else "hook_ift"
        if any(adjoint != Phantom() for adjoint in indexed):
            raise ValueError(
                f"grad={options['grad']} with tau={options['tau']} has no counterpart for the indexed states of "
                f"{name}=True: they carry that of one undamped evaluation; use grad=1 and tau=1, or core='sliced'"
            )
    elif any(adjoint != last for adjoint in indexed):
        raise ValueError(f"grad={options['grad']} differs between indexed states: use one value, or core='sliced'")
    return last


def _tolerance(direction: str, options: dict[str, Any]) -> float | None:
    """The tolerance; None for the solver that does not compute residuals."""
    return None if options[f"{direction}_solver"] == "simple_fixed_point_iter" else options[f"{direction}_tol"]


def _solver(name: str, options: dict[str, Any], given: Mapping[str, Any]) -> Solver:
    chosen = options[name]
    allowed = _choice(name, options, _SOLVER_OPTIONS)
    if unknown := sorted(given.keys() - {*allowed}):
        raise ValueError(f"solver_kwargs {unknown} are not options of {name}={chosen!r}, which are {list(allowed)}")
    damping = 1 - given.get("tau", 1.0)
    if chosen == "anderson":
        return Anderson(given.get("m", 6), given.get("lam", 1e-4), damping, relative_ridge=False)
    if chosen == "broyden":
        # torchdeq has one line search for the whole batch, LineSearchBroyden one for each sample.
        return (LineSearchBroyden if given.get("ls", False) else Broyden)(given.get("LBFGS_thres"))
    return FixedPointIteration(damping)


def _norm(options: dict[str, Any]) -> Callable[..., nn.Module]:
    """The function that normalises the cell."""
    clip = options["norm_clip_value"] if options["norm_clip"] else None
    length, learned = options["norm_target_norm"], not options["norm_no_scale"]
    norms = {
        "weight_norm": partial(weight_norm_, length=None if learned else length, clip=clip),
        "spectral_norm": partial(
            spectral_norm_, bound=length, iterations=options["sn_n_power_iters"], learned=learned, clip=clip
        ),
        "none": _as_it_is,
    }
    return _choice("norm_type", options, norms)


def _as_it_is(module: nn.Module, skip: Sequence[str] = ()) -> nn.Module:
    return module


def _choice(name: str, options: dict[str, Any], choices: dict[str, Any]) -> Any:
    if options[name] not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {options[name]!r}")
    return choices[options[name]]


def _plain(value: Any) -> Any:
    """A list as a tuple, and None, which torchdeq uses for an empty list, as ()."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else value
