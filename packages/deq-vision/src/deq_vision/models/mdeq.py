"""The multiscale deep equilibrium model (Bai, Koltun & Kolter, NeurIPS 2020)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_vision.config import Architecture, Classification, Detection, Equilibrium, Segmentation
from deq_vision.models.cell import Cell, State
from deq_vision.models.detection import Detector
from deq_vision.models.heads import Classifier, Segmenter
from deq_vision.models.stem import Injection, Stem


@dataclass(frozen=True)
class VisionOutput:
    """Output of a model for a batch of images.

    Attributes:
        logits: (B, classes); for segmentation (B, classes, h, w) on the grid of branch 0, a quarter of the image for
            Cityscapes; for detection (B, classes + 4, h, w), see `models.detection`
        state: branches, detached, from which the next frame may start
        solution: result of the solve; its value carries gradients
    """

    logits: Tensor
    state: State
    solution: deq.Solution


class MDEQ(nn.Module):
    """Multiscale features of an image as the joint fixed point of one cell, with a head on top.

    `forward` consists of `inject`, `start`, `map`, `solve` and `head`. With a Jacobian penalty:

        with deq.solve_scope():                                  # one set of dropout masks for both
            injection = model.inject(images)
            solution = model.solve(injection)
            penalty = model.jacobian_penalty(injection, solution, probes=2)
        logits = model.head(solution.value)
    """

    head: Classifier | Segmenter | Detector | None

    def __init__(self, size: Architecture, equilibrium: Equilibrium) -> None:
        super().__init__()
        self.size = size
        self.equilibrium = equilibrium
        self.stem = Stem(size)
        self.cell = Cell(size)
        match size.head:
            case Classification() as head:
                self.head = Classifier(size, head)
            case Segmentation() as head:
                self.head = Segmenter(size, head)
            case Detection() as head:
                self.head = Detector(size, head)
            case None:
                self.head = None
        _initialise(self)
        if size.weight_norm:
            deq.nn.weight_norm_(self.cell, skip=("fuse",) if len(size.channels) > 1 else ())

    def forward(
        self,
        images: Tensor,
        state: State | None = None,
        *,
        steps: int | None = None,
        stop: deq.Stop | None = None,
        record: Sequence[int] = (),
    ) -> VisionOutput:
        """Logits of normalised images (B, 3, H, W), H and W multiples of `size.multiple`.

        Args:
            images: floating point, normalised as in training; cast to the model's precision.
            state: branches to start from, zeros by default; ignored if their shapes do not fit these images.
            steps: number of evaluations to unroll and differentiate through, instead of solving (pretraining).
            stop: stopping rule, in place of the model's.
            record: evaluations whose states are kept in `solution.trajectory`; see `deq_core.fixed_point`.
                `model.head` makes logits of each.

        Raises:
            ValueError: the images are not as above, both `steps` and `stop` are given, or the model has no head.
        """
        if self.head is None:
            raise ValueError("this model has no head: use `features`, or choose an architecture with a head")
        value, solution = self.features(images, state, steps=steps, stop=stop, record=record)
        return VisionOutput(self.head(value), tuple(z.detach() for z in value), solution)

    def features(
        self,
        images: Tensor,
        state: State | None = None,
        *,
        steps: int | None = None,
        stop: deq.Stop | None = None,
        record: Sequence[int] = (),
    ) -> tuple[State, deq.Solution]:
        """The branches at equilibrium, with gradients, and the solution; arguments as in `forward`."""
        solution = self.solve(self.inject(images), state, steps=steps, stop=stop, record=record)
        return solution.value, solution

    def inject(self, images: Tensor) -> Injection:
        """The injection of images (B, 3, H, W) into f: (B, C0, h, w), or a tuple of one tensor a branch.

        Raises:
            ValueError: the images are not floating point, or their shape is none that `forward` accepts.
        """
        multiple = self.size.multiple
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"images must be normalised floating point of shape (B, 3, H, W), got {tuple(images.shape)} of "
                f"{images.dtype}"
            )
        if any(side < multiple or side % multiple for side in images.shape[2:]):
            raise ValueError(
                f"height and width of images must be multiples of {multiple}, so that every branch halves evenly, got "
                f"{tuple(images.shape[2:])}: pad or resize them"
            )
        return self.stem(images.to(next(self.stem.parameters()).dtype))

    def start(self, injection: Injection, state: State | None = None) -> State:
        """The initial state of a solve: `state` if its shapes fit, else zeros."""
        first = injection[0] if isinstance(injection, tuple) else injection
        batch, _, height, width = first.shape
        dtype = torch.promote_types(first.dtype, torch.float32)
        zeros = tuple(
            first.new_zeros(batch, channels, height >> i, width >> i, dtype=dtype)
            for i, channels in enumerate(self.size.channels)
        )
        return deq.nn.warm_start(state, zeros)

    def map(self, injection: Injection, cell: nn.Module | None = None) -> Callable[..., State]:
        """The function f of the branches whose fixed point is sought; gradients reach the stem through it.

        `cell` replaces the model's own, for example by the copy that `deq.delta.to_delta` makes of it.
        """
        cell = self.cell if cell is None else cell

        def f(*state: Tensor) -> State:
            return cell(*state, injection)

        return f

    def solve(
        self,
        injection: Injection,
        state: State | None = None,
        *,
        steps: int | None = None,
        stop: deq.Stop | None = None,
        record: Sequence[int] = (),
    ) -> deq.Solution:
        """The equilibrium for an injection; arguments as in `forward`."""
        choice = self.equilibrium
        f, start = self.map(injection), self.start(injection, state)
        if steps is not None:
            if stop is not None:
                raise ValueError("give steps (unrolled) or stop (solved), not both")
            return deq.compat.released_fixed_point(
                f,
                start,
                solver=deq.FixedPointIteration(),
                stop=deq.Stop(max_steps=steps, tol=None),
                adjoint=deq.Unrolled(),
                record=record,
            )
        if stop is None:
            stop = choice.stop if self.training or choice.eval_stop is None else choice.eval_stop
        if choice.numerics == "released":
            return deq.compat.released_fixed_point(
                f, start, solver=choice.solver, stop=stop, adjoint=choice.adjoint, record=record
            )
        return deq.fixed_point(
            f,
            start,
            solver=choice.solver,
            stop=stop,
            adjoint=choice.adjoint,
            record=record,
            on_failure=choice.on_failure,
        )

    def jacobian_penalty(
        self,
        injection: Injection,
        solution: deq.Solution,
        *,
        probes: int | Sequence[State] = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """|∂f/∂z|² / n at the solution, mean over the batch, a differentiable scalar (Bai, Koltun & Kolter, ICML 2021).

        The solution counts as a constant, unrolled or not. See `deq_core.nn.jacobian_frobenius` for the probes.
        """
        z = solution.argument if isinstance(solution, deq.compat.ReleasedSolution) else solution.value
        return deq.nn.jacobian_frobenius(self.map(injection), z, probes=probes, generator=generator).mean()


def _initialise(model: MDEQ) -> None:
    """Draws the initial weights; must run before weight normalisation splits them."""
    size = model.size
    if size.initialisation == "released":
        normed = {
            layer
            for part in (model.cell.branches, model.cell.post)
            for layer in part.modules()
            if size.weight_norm and isinstance(layer, nn.Conv2d)
        }
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                if layer not in normed:
                    nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.normal_(layer.bias, std=0.01)
    if size.output_affine:
        for output in model.cell.post:
            nn.init.constant_(output.get_submodule("norm").get_parameter("weight"), size.output_gain)
