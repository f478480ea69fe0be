"""Reading a torchdeq configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ._adjoint import Adjoint, Implicit, Phantom
from ._layer import DEQ
from ._solver import Anderson, Broyden, FixedPointIteration, Solver
from ._stop import Stop

# name → torchdeq 0.1's default
_KNOWN: dict[str, Any] = {
    "core": "sliced",
    "f_solver": "fixed_point_iter",
    "b_solver": "fixed_point_iter",
    "no_stat": None,  # whether the statistics of a solve are skipped: ours cost nothing that would be spared
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
    "n_states": 1,
    "indexing": (),
    "norm_type": "weight_norm",
    "gamma": 0.8,
    "jac_loss_weight": 0.0,
    "jac_loss_freq": 0.0,
}
# What has no counterpart may be present at its default.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "sup_gap": (-1, "solve in slices and supervise their values"),
    "sup_loc": ((), "solve in slices and supervise their values"),
    "norm_no_scale": (False, "weight_norm_ always learns the lengths"),
    "norm_clip": (False, "weight_norm_ does not clip"),
    "norm_clip_value": (1.0, "weight_norm_ does not clip"),
    "norm_target_norm": (1.0, "weight_norm_ begins at the weight's own length"),
    "sn_n_power_iters": (1, "there is one power iteration a forward"),
    "jac_incremental": (0, "schedule the weight in the objective"),
    "sradius_mode": (False, "call spectral_radius(f, solution.value)"),
}


@dataclass(frozen=True)
class TorchDEQ:
    """A torchdeq configuration in the words of this library.

    Attributes:
        layers: one solve each. Several are torchdeq's slices: every one starts from the last one's `value.detach()`,
            and the values of all are supervised.
        record: for `layers[0](f, z0, record=record)` in training: the indexed states.
        weight_norm: whether the cell is to be passed to `weight_norm_`.
        gamma: for `exponential_weights`.
        jac_loss_weight, jac_loss_freq: weight and probability of the `jacobian_frobenius` term.
    """

    layers: tuple[DEQ, ...]
    record: tuple[int, ...]
    weight_norm: bool
    gamma: float
    jac_loss_weight: float
    jac_loss_freq: float


def from_torchdeq(args: Any) -> TorchDEQ:
    """The layers and settings that a torchdeq 0.1 configuration stands for, with its numerics.

    Args:
        args: a mapping, or an object with attributes (`argparse.Namespace`), of torchdeq's options; missing ones take
            its defaults. It is not changed.

    Raises:
        ValueError: an unknown option, or a value without counterpart; the message names it.
    """
    given = dict(args) if isinstance(args, Mapping) else dict(vars(args))
    if unknown := sorted(given.keys() - _KNOWN.keys() - _UNSUPPORTED.keys()):
        raise ValueError(f"not options of torchdeq: {unknown}; pass its own options only, which are {sorted(_KNOWN)}")
    for name, (default, instead) in _UNSUPPORTED.items():
        value = given.get(name, default)
        if _plain(value) != default:
            raise ValueError(f"{name}={value!r} has no counterpart: {instead}")
    options = {name: _plain(given.get(name, default)) for name, default in _KNOWN.items()}
    relative = _choice("f_stop_mode", options, {"abs": False, "rel": True})
    solver = _solver("f_solver", options)
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
        weight_norm=_choice("norm_type", options, {"weight_norm": True, "none": False}),
        gamma=options["gamma"],
        jac_loss_weight=options["jac_loss_weight"],
        jac_loss_freq=options["jac_loss_freq"],
    )


def _ends(options: dict[str, Any], sliced: bool) -> list[int]:
    """The evaluations whose states are supervised, the last one included."""
    steps, states = options["f_max_iter"], options["n_states"]
    if states > steps:
        raise ValueError(f"n_states={states} asks for more states than f_max_iter={steps} evaluations")
    if states <= 1:
        return [*options["indexing"], steps]
    gap = steps // states
    if sliced or steps % states == 0:
        return [(k + 1) * gap for k in range(states)]
    return [steps - (states - k - 1) * gap for k in range(states)]


def _adjoints(options: dict[str, Any], states: int) -> list[Adjoint]:
    """One for each supervised state."""
    grads = options["grad"] if isinstance(options["grad"], tuple) else (options["grad"],)
    grads = grads * states if len(grads) == 1 else grads
    if len(grads) != states:
        raise ValueError(f"grad={options['grad']} has {len(grads)} values for {states} supervised states")
    adjoints: list[Adjoint] = [Phantom(steps=steps, damping=1 - options["tau"]) for steps in grads]
    if options["ift"] or options["hook_ift"]:
        relative = _choice("b_stop_mode", options, {"abs": False, "rel": True})
        stop = Stop(options["b_max_iter"], _tolerance("b", options), relative)
        adjoints[-1] = Implicit(_solver("b_solver", options), stop)
    return adjoints


def _one_for_all(adjoints: list[Adjoint], options: dict[str, Any]) -> Adjoint:
    """The adjoint of a solve whose indexed states are differentiated too."""
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
    """None for the solver that looks at no residual."""
    return None if options[f"{direction}_solver"] == "simple_fixed_point_iter" else options[f"{direction}_tol"]


def _solver(name: str, options: dict[str, Any]) -> Solver:
    released = Anderson(window=6, ridge=1e-4, relative_ridge=False)
    plain = FixedPointIteration()
    solvers: dict[str, Solver] = {
        "fixed_point_iter": plain,
        "simple_fixed_point_iter": plain,
        "anderson": released,
        "broyden": Broyden(),
    }
    return _choice(name, options, solvers)


def _choice(name: str, options: dict[str, Any], choices: dict[str, Any]) -> Any:
    if options[name] not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {options[name]!r}")
    return choices[options[name]]


def _plain(value: Any) -> Any:
    """Lists as tuples, and torchdeq's None for an empty one."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else value
