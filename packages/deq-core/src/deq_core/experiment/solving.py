"""Configuration of an equilibrium layer as params.yaml writes it, built into the objects of `deq_core`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import deq_core as deq
from deq_core.experiment.config import Kind

Solver = Annotated[
    deq.FixedPointIteration
    | deq.Anderson
    | deq.Broyden
    | deq.TypeOneAnderson
    | deq.Safeguarded
    | deq.GMRES
    | deq.ConjugateResidual
    | deq.Reversible,
    Kind,
]
OnFailure = Literal["ignore", "warn", "raise"]

_NORMS = {"two": deq.two_norm, "rms": deq.rms_norm, "max": deq.max_norm}


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """When a solve ends; see `deq_core.Stop`."""

    max_steps: int
    """Evaluations of the cell at most."""
    tol: float | None = None
    """Residual at which a sample is done; None spends `max_steps` on every sample."""
    relative: bool = True
    """Whether the residual is relative to the norm of f(z)."""
    norm: Literal["two", "rms", "max"] = "two"

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> deq.Stop:
        """The stopping rule of `deq_core`."""
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
        """The adjoint of `deq_core`."""
        return deq.Implicit(solver=self.solver, stop=self.stop.build(), on_failure=self.on_failure)


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """An equilibrium layer: how it is solved, and how gradients pass through it."""

    solver: Solver
    stop: StopConfig
    adjoint: Annotated[
        ImplicitConfig | deq.Phantom | deq.Unrolled | deq.Truncated | deq.JacobianFree | deq.Reversible, Kind
    ]
    """A reversible gradient needs the same reversible solver."""
    eval_stop: StopConfig | None = None
    """Stop in evaluation mode; None keeps `stop`."""
    on_failure: OnFailure = "ignore"
    """What a solve does when samples end above the tolerance."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> deq.DEQ:
        """The layer of `deq_core`."""
        adjoint = self.adjoint.build() if isinstance(self.adjoint, ImplicitConfig) else self.adjoint
        eval_stop = None if self.eval_stop is None else self.eval_stop.build()
        return deq.DEQ(
            solver=self.solver,
            stop=self.stop.build(),
            adjoint=adjoint,
            eval_stop=eval_stop,
            on_failure=self.on_failure,
        )
