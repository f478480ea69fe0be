"""How a trained network is run: solver, stop, iterations and precision at test time."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from deq_core.experiment.solving import Solver, StopConfig
from deq_flow.models import RAFT, DEQFlow, FlowOutput
from deq_flow.models.network import State
from deq_flow.models.padding import Padding

PaddingMode = Literal["centre", "bottom"]
"""Where frames are padded to a multiple of a network's scale; see `models.padding.Padding`."""

Start = Literal["cold", "warm", "reuse", "reuse_interpolated"]
"""What a pair starts from, given the pair before it in a video; see `sequences.start_from`."""

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a network is run; what is None is as the network itself has it."""

    solver: Solver | None = None
    """Of an equilibrium network."""
    stop: StopConfig | None = None
    """Of an equilibrium network."""
    steps: int | None = None
    """Iterations of an unrolled network."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of autocast. RAFT's submission to Sintel was made in float16."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One solver at many numbers of iterations and tolerances, all from a single solve of each pair."""

    solver: Solver | None = None
    """Of an equilibrium network; None is its own."""
    iterations: tuple[int, ...]
    """The error is measured after each of these."""
    tolerances: tuple[float, ...] = ()
    """And, for an equilibrium network, where the residual first comes down to each of these, or after the most
    iterations where it never does: what a solve with that tolerance returns."""
    relative: bool = True
    """Whether the residual is relative to the norm of f(z)."""

    def __post_init__(self) -> None:
        if not self.iterations or any(earlier >= later for earlier, later in pairwise((0, *self.iterations))):
            raise ValueError(f"iterations: expected ascending numbers of at least 1, got {list(self.iterations)}")
        if any(tolerance <= 0 for tolerance in self.tolerances):
            raise ValueError(f"tolerances: expected numbers above 0, got {list(self.tolerances)}")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a checkpoint is measured on published sets. The default is the protocol of the releases, cold."""

    inference: Inference = field(default_factory=Inference)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    """Further solves by name; an empty one costs nothing."""
    batch_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Which starts of the frames of a video are compared, and at which budgets."""

    starts: tuple[Start, ...] = ("cold", "warm", "reuse")
    stops: dict[str, StopConfig] = field(default_factory=dict)
    """Budgets by name: stops of an equilibrium network, of which an unrolled one takes `max_steps`. Where there is
    none, the network's own is the one."""

    def __post_init__(self) -> None:
        if not self.starts or len(set(self.starts)) != len(self.starts):
            raise ValueError(f"starts: expected at least one, each once, got {list(self.starts)}")

    def budgets(self) -> dict[str, Inference]:
        """How the network is run, by the name of the budget; `own` is that of the network."""
        if not self.stops:
            return {"own": Inference()}
        return {name: Inference(stop=stop, steps=stop.max_steps) for name, stop in self.stops.items()}


@dataclass(frozen=True, kw_only=True)
class Reuse(Starts):
    """The study of reuse on embedded videos."""

    methods: tuple[str, ...]
    """Trained networks, keys of `model`."""
    set: str = "video"
    """Set whose pairs come from videos; see `sets.SETS`."""
    threads: int = 1


class Estimator:
    """A network with its choices for test time: images in, flow out, without gradients, on the network's device.

    The network that is passed stays as it is.

    Args:
        network: in evaluation mode.
        choice: how it is run.
        padding: of the frames.
    """

    def __init__(
        self,
        network: DEQFlow | RAFT,
        choice: Inference | None = None,
        *,
        padding: PaddingMode = "centre",
    ) -> None:
        if network.training:
            raise ValueError("the network must be in evaluation mode: call eval() on it")
        choice = choice or Inference()
        self.network = copy.copy(network)  # shares the weights
        self.padding: PaddingMode = padding
        self.precision = PRECISIONS.get(choice.precision)
        if isinstance(self.network, DEQFlow):
            own = self.network.equilibrium
            self.network.equilibrium = replace(
                own,
                solver=choice.solver or own.solver,
                eval_stop=own.eval_stop or own.stop if choice.stop is None else choice.stop.build(),
            )
        elif choice.steps is not None:
            self.network.eval_steps = choice.steps

    @property
    def steps(self) -> int:
        """Iterations at most."""
        if isinstance(self.network, DEQFlow):
            own = self.network.equilibrium
            return (own.eval_stop or own.stop).max_steps
        return self.network.eval_steps

    @torch.no_grad()
    def __call__(
        self,
        image1: Tensor,
        image2: Tensor,
        state: State | None = None,
        *,
        steps: int | None = None,
        record: Sequence[int] = (),
    ) -> FlowOutput:
        """Flow between images (b, 3, h, w) of values 0 to 255.

        Args:
            image1, image2: on any device.
            state: what to start from; cold by default.
            steps: iterations at most, in place of the choice.
            record: iterations whose flow comes in `flows` too, before the last one's.
        """
        device = self.network.fnet.conv1.weight.device
        padding = Padding(image1.shape[2], image1.shape[3], self.network.size.scale, self.padding)
        images = [padding.pad(image.to(device, torch.float32)) for image in (image1, image2)]
        with torch.autocast(device.type, self.precision, enabled=self.precision is not None):
            output = self.network(*images, state, steps=steps, record=tuple(record))
        flows = tuple(padding.crop(flow).float() for flow in output.flows)
        return replace(output, flow=flows[-1], flows=flows)
