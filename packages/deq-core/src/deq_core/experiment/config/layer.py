"""Configuration of an equilibrium layer in params.yaml, and how it becomes objects of `deq_core`."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, Self, get_args

from torch import Tensor

import deq_core as deq
from deq_core.experiment.config import Kind

Solver = Annotated[
    deq.FixedPointIteration
    | deq.Anderson
    | deq.Broyden
    | deq.LineSearchBroyden
    | deq.TypeOneAnderson
    | deq.Safeguarded
    | deq.GMRES
    | deq.ConjugateResidual
    | deq.Reversible,
    Kind,
]
OnFailure = Literal["ignore", "warn", "raise"]
Norm = Literal["two", "rms", "max"]

_NORMS: dict[Norm, Callable[[Tensor], Tensor]] = {"two": deq.two_norm, "rms": deq.rms_norm, "max": deq.max_norm}


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """Tolerance of one part of the state; see `deq_core.Part`."""

    tol: float | None
    """Residual at which the part has converged; None ignores the part."""
    relative: bool = True
    """Whether the residual is relative to the norm of this part of f(z) or absolute."""
    norm: Norm = "two"

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> deq.Part:
        """The corresponding `deq_core.Part`."""
        return deq.Part(self.tol, relative=self.relative, norm=_NORMS[self.norm])


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """When a solve ends; see `deq_core.Stop`."""

    max_steps: int
    """Maximum number of evaluations of the cell."""
    tol: float | None = None
    """Residual at which a sample has converged; None runs `max_steps` for every sample."""
    relative: bool = True
    """Whether the residual is relative to the norm of f(z)."""
    norm: Norm = "two"
    parts: tuple[PartConfig, ...] = ()
    """Tolerance of each part of the state, in order; replaces `tol`, `relative` and `norm`. [] uses the whole state."""

    def __post_init__(self) -> None:
        if self.parts and (self.tol is not None or not self.relative or self.norm != "two"):
            raise ValueError("with parts, tol, relative and norm must be each part's own: leave out the stop's")
        self.build()

    def build(self) -> deq.Stop:
        """The corresponding `deq_core.Stop`."""
        if self.parts:
            return deq.Stop(max_steps=self.max_steps, parts=tuple(part.build() for part in self.parts))
        return deq.Stop(max_steps=self.max_steps, tol=self.tol, relative=self.relative, norm=_NORMS[self.norm])


@dataclass(frozen=True, kw_only=True)
class ImplicitConfig:
    """Gradients by the implicit function theorem; see `deq_core.Implicit`."""

    solver: Solver
    """Solver of the adjoint system u = Jᵀu + g."""
    stop: StopConfig
    on_failure: OnFailure = "ignore"
    """What the backward pass does when samples end above the tolerance."""
    kind: Literal["implicit"] = field(default="implicit", repr=False)

    def build(self) -> deq.Implicit:
        """The corresponding `deq_core.Implicit`."""
        return deq.Implicit(solver=self.solver, stop=self.stop.build(), on_failure=self.on_failure)


Adjoint = Annotated[
    ImplicitConfig | deq.Phantom | deq.Unrolled | deq.Truncated | deq.JacobianFree | deq.Reversible, Kind
]


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """Solver, stopping rule and gradient of an equilibrium layer."""

    solver: Solver
    stop: StopConfig
    adjoint: Adjoint
    """A reversible gradient needs the same reversible solver."""
    eval_stop: StopConfig | None = None
    """Stop in evaluation mode; None keeps `stop`."""
    on_failure: OnFailure = "ignore"
    """What a solve does when samples end above the tolerance."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> deq.nn.DEQ:
        """The corresponding `deq_core.nn.DEQ`."""
        return deq.nn.DEQ(**self.choices())

    def choices(self) -> dict[str, Any]:
        """Arguments of `DEQ` by name, as objects of `deq_core`; also the fields of the domains' `Equilibrium`."""
        return {choice.name: _built(getattr(self, choice.name)) for choice in fields(self)}

    @classmethod
    def of(cls, layer: Any) -> Self:
        """The configuration of an object that has the `choices` as attributes, such as a `DEQ` or an `Equilibrium`.

        Raises:
            ValueError: a choice cannot be written in a configuration.
        """
        return cls(**{choice.name: _written(choice.name, getattr(layer, choice.name)) for choice in fields(cls)})


def _built(choice: Any) -> Any:
    return choice.build() if isinstance(choice, StopConfig | ImplicitConfig) else choice


def _written(name: str, choice: Any) -> Any:
    """The configuration of one choice; inverse of `_built`."""
    match choice:
        case deq.Stop(parts=()):
            norm = _norm_written(name, choice.norm)
            return StopConfig(max_steps=choice.max_steps, tol=choice.tol, relative=choice.relative, norm=norm)
        case deq.Stop(tol=None):
            raise ValueError(f"{name}: a configuration cannot express a stop by parts that ignores them: {choice}")
        case deq.Stop():
            parts = tuple(
                PartConfig(tol=part.tol, relative=part.relative, norm=_norm_written(name, part.norm))
                for part in choice.parts
            )
            return StopConfig(max_steps=choice.max_steps, parts=parts)
        case deq.Implicit():
            solver, stop = (_written(f"{name}.{part}", getattr(choice, part)) for part in ("solver", "stop"))
            return ImplicitConfig(solver=solver, stop=stop, on_failure=choice.on_failure)
        case None | str():
            return choice
    kinds = get_args(get_args(Solver if name.endswith("solver") else Adjoint)[0])
    if type(choice) not in kinds:
        known = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{name}: a configuration cannot express {choice!r}; it has {known}")
    return choice


def _norm_written(name: str, norm: Callable[[Tensor], Tensor]) -> Norm:
    """The name of a norm."""
    words: dict[Callable[[Tensor], Tensor], Norm] = {function: word for word, function in _NORMS.items()}
    if norm not in words:
        raise ValueError(f"{name}: a configuration cannot express the norm {norm!r}: use {list(_NORMS)}")
    return words[norm]
