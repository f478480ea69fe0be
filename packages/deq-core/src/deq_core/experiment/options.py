"""The options of training commands, which override values of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from deq_core.experiment import config
from deq_core.experiment.commands import default, with_metavar
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.config.recipe import EquilibriumRecipe, Recipe

R = TypeVar("R", bound=Recipe)

SolverKind = Literal[
    "fixed_point_iteration",
    "anderson",
    "broyden",
    "line_search_broyden",
    "type_one_anderson",
    "safeguarded",
    "reversible",
]
AdjointKind = Literal["implicit", "phantom", "unrolled", "truncated", "jacobian_free", "reversible"]
_given = default("the recipe's")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Values that override those of the recipe; None keeps the recipe's."""

    steps: Annotated[int | None, _given] = None
    """number of updates; the number of unrolled updates at the start scales with it."""
    lr: Annotated[float | None, _given] = None
    """peak learning rate."""
    batch_size: Annotated[int | None, _given] = None
    """samples per update."""
    network: Annotated[str | None, _given] = None
    """architecture, by a name that the package's function `build` knows."""
    solver: Annotated[SolverKind | None, _given] = None
    """solver of the forward pass; an implicit gradient of the recipe keeps its own solver."""
    max_steps: Annotated[int | None, _given] = None
    """maximum number of evaluations in a forward solve, in training and evaluation; depth of an unrolled network."""
    tolerance: Annotated[float | None, _given] = None
    """residual at which a solve ends, in training and evaluation; relative, unless the recipe's is absolute."""
    adjoint: Annotated[AdjointKind | None, _given] = None
    """gradient through the fixed point; implicit uses the solver and stop of the forward pass, or the recipe's own."""
    device: Annotated[Literal["cpu", "cuda"] | None, _given] = None
    """device to train on."""
    threads: Annotated[int | None, _given] = None
    """CPU threads; only the same number gives the same result bit for bit."""

    def of_recipe(self, recipe: R) -> R:
        """The recipe with these steps, learning rate, batches, device and threads."""
        given: dict[str, Any] = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "optim.lr": self.lr,
            "device": self.device,
            "threads": self.threads,
        }
        if self.steps is not None and isinstance(recipe, EquilibriumRecipe) and recipe.pretraining is not None:
            given["pretraining.steps"] = round(self.steps * recipe.pretraining.steps / recipe.steps)
        return config.changed(recipe, given)

    def of_layer(self, layer: LayerConfig) -> LayerConfig:
        """The layer with this solver, stop and gradient."""
        if self.stop and layer.eval_stop is not None:
            layer = replace(layer, eval_stop=None)
        given = {**self.stop, "solver": kind_of(self.solver, layer.solver)}
        if self.adjoint == "implicit" != layer.adjoint.kind:
            solved = config.plain(config.changed(layer, given))
            given["adjoint"] = {"kind": "implicit", "solver": solved["solver"], "stop": solved["stop"]}
        else:
            given["adjoint"] = kind_of(self.adjoint, layer.adjoint)
        return config.changed(layer, given)

    @property
    def stop(self) -> dict[str, Any]:
        """The given values of the stop, by key of a `LayerConfig`."""
        found = {"stop.max_steps": self.max_steps, "stop.tol": self.tolerance}
        return {name: value for name, value in found.items() if value is not None}

    def require_layer(self, name: str) -> None:
        """Raises ConfigError if options of an equilibrium layer are given for `name`, an unrolled network."""
        if given := [word for word in ("solver", "tolerance", "adjoint") if getattr(self, word) is not None]:
            words = ", ".join(f"--{word}" for word in given)
            raise ConfigError(f"{words}: {name} is unrolled, and has no fixed point; --max-steps is its depth")


hints = get_type_hints(Options, include_extras=True)
Options.__annotations__ = {name: with_metavar(name, hint) for name, hint in hints.items()}


def asked(**given: Path | None) -> Path:
    """The value of a required option; raises ConfigError if it is not given."""
    ((name, value),) = given.items()
    if value is None:
        raise ConfigError(f"--{name}: expected a path, got none")
    return value


def kind_of(kind: str | None, present: Any) -> Mapping[str, str] | None:
    """A choice of that kind with its defaults; None if it is the present kind, which keeps its values."""
    return None if kind in (None, present.kind) else {"kind": kind}
