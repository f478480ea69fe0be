"""The options of commands that train: what one changes of a recipe, laid over it. All else stays as the recipe says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from deq_core.experiment import config
from deq_core.experiment.commands import default
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
    """Each that is given takes the place of what the recipe says."""

    steps: Annotated[int | None, _given] = None
    """updates; of these, unrolled ones at the beginning keep their share."""
    lr: Annotated[float | None, _given] = None
    """peak learning rate."""
    batch_size: Annotated[int | None, _given] = None
    """samples of an update."""
    network: Annotated[str | None, _given] = None
    """sizes of the network, by a name that `build` knows."""
    solver: Annotated[SolverKind | None, _given] = None
    """solver of the fixed point; an implicit gradient keeps its own."""
    max_steps: Annotated[int | None, _given] = None
    """evaluations of a solve at most, in evaluation too."""
    tolerance: Annotated[float | None, _given] = None
    """relative residual at which a solve ends before that, in evaluation too."""
    adjoint: Annotated[AdjointKind | None, _given] = None
    """how gradients pass through the fixed point; implicit solves for them as the fixed point is solved for."""
    device: Annotated[Literal["cpu", "cuda"] | None, _given] = None
    """where it is trained."""
    threads: Annotated[int | None, _given] = None
    """of the CPU; results are the same, bit by bit, at an equal count alone."""

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
        """What is given of the stop."""
        found = {"stop.max_steps": self.max_steps, "stop.tol": self.tolerance}
        return {name: value for name, value in found.items() if value is not None}

    def require_layer(self, name: str) -> None:
        """Raises ConfigError where something is given of a layer, which the network `name` lacks: it is unrolled."""
        if given := [word for word in ("solver", "tolerance", "adjoint") if getattr(self, word) is not None]:
            words = ", ".join(f"--{word}" for word in given)
            raise ConfigError(f"{words}: {name} is unrolled, and has no fixed point; --max-steps is its depth")


def asked(**given: Path | None) -> Path:
    """What an option names that the command cannot do without; raises ConfigError where it is not given."""
    ((name, value),) = given.items()
    if value is None:
        raise ConfigError(f"--{name}: expected a path, got none")
    return value


def kind_of(kind: str | None, present: Any) -> Mapping[str, str] | None:
    """A choice of that kind with its defaults; None where it is the present one, whose numbers stay."""
    return None if kind in (None, present.kind) else {"kind": kind}
