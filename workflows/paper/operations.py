"""Floating-point operations of an update or a prediction of a network, counted with fake tensors.

They are those of convolutions and matrix products. Not counted are the algebra of solvers and the adaptive softmax of
language models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import deq_core as deq
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig
from deq_flow.networks import build_network
from deq_flow.params import EquilibriumModel, UnrolledModel
from deq_sequence.config import WT103
from deq_sequence.models.positions import sinusoids
from deq_sequence.models.transformer import DEQTransformer
from deq_sequence.params import Model as Transformer
from deq_vision.config import Architecture
from deq_vision.models.mdeq import MDEQ
from deq_vision.models.variants import VARIANTS

T = TypeVar("T")


@dataclass(frozen=True)
class Counted:
    """Operations of the parts of an update of a network, in one process."""

    weights: int
    around: int
    """Everything except f and predictions, forward and backward."""
    f: int
    """An evaluation of f."""
    back: int
    """The gradient of f with respect to state and weights."""
    product: int
    """The gradient of f with respect to the state alone."""
    prediction: int
    """A prediction from a state, forward and backward."""

    def unrolled(self, depth: float, predictions: int = 1) -> float:
        """Operations of an update through `depth` unrolled evaluations."""
        return self.around + predictions * self.prediction + depth * (self.f + self.back)

    def solved(self, layer: LayerConfig, predictions: int = 1) -> float:
        """Operations of an update whose solve uses all its evaluations, with a gradient from each prediction."""
        forward = layer.stop.max_steps
        match layer.adjoint:
            case deq.Unrolled():
                return self.unrolled(forward, predictions)
            case deq.Phantom(steps=steps):
                return forward * self.f + self.unrolled(predictions * steps, predictions)
            case ImplicitConfig(stop=stop):
                # One more f at the solution for the gradient of the weights, and one for the products with the Jacobian
                gradients = predictions * (self.f + stop.max_steps * self.product)
                return forward * self.f + gradients + self.unrolled(predictions, predictions)
        raise ValueError(f"adjoint: expected unrolled, phantom or implicit, got {layer.adjoint}")


@dataclass(frozen=True)
class Seen:
    """Operations of the parts of a prediction without gradients."""

    before: int
    """Everything before the solve."""
    f: int
    """An evaluation of f."""
    answer: int
    """An answer read from a state."""

    def solved(self, evaluations: int, answers: int = 1) -> int:
        """Operations of a prediction with these numbers of evaluations and answers."""
        return self.before + evaluations * self.f + answers * self.answer


@dataclass(frozen=True)
class Problem:
    """The function whose fixed point is sought, the initial state, and the sum of the prediction from a state."""

    f: Callable[..., Any]
    start: Sequence[Tensor]
    predict: Callable[..., Tensor]


def counted(build: Callable[[], nn.Module], pose: Callable[[Any], Problem]) -> Counted:
    """Counts the parts of an update of the network that `build` makes."""
    with FakeTensorMode():
        network = build().train()

        def update(evaluations: int, predictions: int) -> None:
            problem = pose(network)
            state = tuple(problem.start)
            for _ in range(evaluations):
                state = evaluated(problem, state)
            torch.stack([problem.predict(*state) for _ in range(predictions)]).sum().backward()

        def evaluated(problem: Problem, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            found = problem.f(*state)
            return (found,) if isinstance(found, Tensor) else tuple(found)

        problem = pose(network)
        state = tuple(part.detach().requires_grad_() for part in problem.start)
        f, found = operations(lambda: evaluated(problem, state))
        product, _ = operations(
            lambda: torch.autograd.grad(found, state, tuple(map(torch.ones_like, found)), allow_unused=True)
        )
        once, twice, again = (
            operations(lambda counts=counts: update(*counts))[0] for counts in ((1, 1), (2, 1), (1, 2))
        )
        weights = sum(tensor.numel() for tensor in network.state_dict().values())
    prediction, back = again - once, twice - once - f
    return Counted(weights, once - f - back - prediction, f, back, product, prediction)


def seen(build: Callable[[], nn.Module], pose: Callable[[Any], Problem]) -> Seen:
    """Counts the parts of a prediction of the network that `build` makes."""
    with FakeTensorMode(), torch.no_grad():
        network = build().eval()
        before, problem = operations(lambda: pose(network))
        f, _ = operations(lambda: problem.f(*problem.start))
        answer, _ = operations(lambda: problem.predict(*problem.start))
    return Seen(before, f, answer)


def operations(run: Callable[[], T]) -> tuple[int, T]:
    """The number of operations of `run`, and what it returns."""
    with FlopCounterMode(display=False) as counter:
        found = run()
    return counter.get_total_flops(), found


@lru_cache(maxsize=None, typed=True)
def of_flow(model: EquilibriumModel, batch: int, crop: tuple[int, int]) -> Counted:
    """An update of a flow network on pairs of frames (h, w)."""
    return counted(lambda: build_network(model), on_frames(batch, crop))


@lru_cache(maxsize=None, typed=True)
def seen_flow(model: EquilibriumModel, size: tuple[int, int]) -> Seen:
    """A prediction for a pair of frames (h, w) at one scale, with all correlations stored."""
    return seen(lambda: build_network(model, correlation="all-pairs"), on_frames(1, size))


def on_frames(batch: int, size: tuple[int, int]) -> Callable[[Any], Problem]:
    """The problem of a flow network on pairs of frames (h, w)."""

    def pose(network: Any) -> Problem:
        frames = torch.empty(batch, 3, *size)
        pair = network.encode(frames, frames)
        return Problem(
            network.map(pair),
            network.start(pair),
            lambda hidden, unknown: pair.finish(network.flow_of(unknown, pair), hidden).sum(),
        )

    return pose


@lru_cache(maxsize=None, typed=True)
def of_unrolled_flow(model: UnrolledModel, batch: int, crop: tuple[int, int]) -> tuple[int, int]:
    """Operations of an update on pairs of frames (h, w) with all its predictions, and the number of weights."""
    with FakeTensorMode():
        network, frames = build_network(model).train(), torch.empty(batch, 3, *crop)
        taken, _ = operations(
            lambda: torch.stack([flow.sum() for flow in network(frames, frames).flows]).sum().backward()
        )
        return taken, sum(tensor.numel() for tensor in network.state_dict().values())


@lru_cache(maxsize=None, typed=True)
def seen_unrolled_flow(model: UnrolledModel, size: tuple[int, int]) -> Seen:
    """A prediction for a pair of frames (h, w); `f` includes the flow after each iteration."""
    with FakeTensorMode(), torch.no_grad():
        network, frames = build_network(model, correlation="all-pairs").eval(), torch.empty(1, 3, *size)
        once, twice = (
            operations(lambda steps=steps: network(frames, frames, steps=steps, record=range(1, steps + 1)))[0]
            for steps in (1, 2)
        )
    return Seen(2 * once - twice, twice - once, 0)


@lru_cache(maxsize=None, typed=True)
def of_vision(architecture: Architecture, batch: int, size: tuple[int, int]) -> Counted:
    """An update of an MDEQ on images (h, w)."""
    return counted(lambda: MDEQ(architecture, VARIANTS["cifar-tiny"].equilibrium), on_images(batch, size))


@lru_cache(maxsize=None, typed=True)
def seen_vision(architecture: Architecture, size: tuple[int, int]) -> Seen:
    """A prediction for an image (h, w)."""
    return seen(lambda: MDEQ(architecture, VARIANTS["cifar-tiny"].equilibrium), on_images(1, size))


def on_images(batch: int, size: tuple[int, int]) -> Callable[[Any], Problem]:
    """The problem of an MDEQ on images (h, w)."""

    def pose(network: Any) -> Problem:
        injection = network.inject(torch.empty(batch, 3, *size))
        return Problem(network.map(injection), network.start(injection), lambda *state: network.head(state).sum())

    return pose


@lru_cache(maxsize=None, typed=True)
def of_sequence(model: Transformer, batch: int, length: int) -> Counted:
    """An update of a language model on segments with a full memory before them."""
    return counted(lambda: transformer(model), on_segments(model, batch, length))


@lru_cache(maxsize=None, typed=True)
def seen_sequence(model: Transformer, length: int) -> Seen:
    """A prediction for a segment with a full memory before it."""
    return seen(lambda: transformer(model), on_segments(model, 1, length))


def transformer(model: Transformer) -> DEQTransformer:
    """The language model with the published vocabulary."""
    return DEQTransformer(model.architecture(WT103.vocabulary), model.equilibrium())


def on_segments(model: Transformer, batch: int, length: int) -> Callable[[Any], Problem]:
    """The problem of a language model on segments with a full memory before them."""
    size = model.architecture(WT103.vocabulary)

    def pose(network: Any) -> Problem:
        embedded = torch.empty(batch, length, size.width, requires_grad=True)
        injections, before = network.injection(embedded), torch.empty(batch, model.memory, 3 * size.attention)
        positions = sinusoids(model.memory + length, size.width, like=embedded)
        context = network.cell.context(injections, torch.empty(batch, model.memory, size.width), before, positions)
        return Problem(lambda state: network.cell(state, context), [torch.zeros_like(embedded)], Tensor.sum)

    return pose
