"""Floating-point operations of an update or a prediction of a network, counted on tensors that have shapes alone.

They are those of convolutions and matrix products. What solvers do beside f is not counted, nor
is the adaptive softmax of language models.
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
from deq_vision.config import VARIANTS, Architecture
from deq_vision.models.mdeq import MDEQ

T = TypeVar("T")


@dataclass(frozen=True)
class Counted:
    """Floating-point operations of the parts of an update of one network, on one process."""

    weights: int
    around: int
    """Of all but f and what is predicted from its states: forwards and backwards."""
    f: int
    """Of an evaluation of f."""
    back: int
    """Of its gradient, by state and weights."""
    product: int
    """Of its gradient by the state alone."""
    prediction: int
    """Of what is predicted from a state, forwards and backwards."""

    def unrolled(self, depth: float, predictions: int = 1) -> float:
        """Of an update through so many evaluations."""
        return self.around + predictions * self.prediction + depth * (self.f + self.back)

    def solved(self, layer: LayerConfig, predictions: int = 1) -> float:
        """Of an update whose solve spends all of its evaluations; every state that is predicted from has a gradient."""
        forward = layer.stop.max_steps
        match layer.adjoint:
            case deq.Unrolled():
                return self.unrolled(forward, predictions)
            case deq.Phantom(steps=steps):
                return forward * self.f + self.unrolled(predictions * steps, predictions)
            case ImplicitConfig(stop=stop):
                # f once more at the solution, through which the weights get their gradient, and once for the products
                gradients = predictions * (self.f + stop.max_steps * self.product)
                return forward * self.f + gradients + self.unrolled(predictions, predictions)
        raise ValueError(f"adjoint: expected unrolled, phantom or implicit, got {layer.adjoint}")


@dataclass(frozen=True)
class Seen:
    """Floating-point operations of the parts of a prediction, which has no gradient."""

    before: int
    """Of what comes before the solve."""
    f: int
    """Of an evaluation of f."""
    answer: int
    """Of what is read off a state."""

    def solved(self, evaluations: int, answers: int = 1) -> int:
        """Of a prediction of so many evaluations, with what is read off so many states."""
        return self.before + evaluations * self.f + answers * self.answer


@dataclass(frozen=True)
class Problem:
    """The function whose fixed point is sought, where a solve begins, and the sum of what is predicted from a state."""

    f: Callable[..., Any]
    start: Sequence[Tensor]
    predict: Callable[..., Tensor]


def counted(build: Callable[[], nn.Module], pose: Callable[[Any], Problem]) -> Counted:
    """The parts of an update of what `build` makes."""
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
    """The parts of a prediction of what `build` makes."""
    with FakeTensorMode(), torch.no_grad():
        network = build().eval()
        before, problem = operations(lambda: pose(network))
        f, _ = operations(lambda: problem.f(*problem.start))
        answer, _ = operations(lambda: problem.predict(*problem.start))
    return Seen(before, f, answer)


def operations(run: Callable[[], T]) -> tuple[int, T]:
    """How many there are, and what is returned."""
    with FlopCounterMode(display=False) as counter:
        found = run()
    return counter.get_total_flops(), found


@lru_cache(maxsize=None, typed=True)
def of_flow(model: EquilibriumModel, batch: int, crop: tuple[int, int]) -> Counted:
    """On pairs of frames (h, w)."""
    return counted(lambda: build_network(model), on_frames(batch, crop))


@lru_cache(maxsize=None, typed=True)
def seen_flow(model: EquilibriumModel, size: tuple[int, int]) -> Seen:
    """Of a pair of frames (h, w), seen once at that size, with every correlation stored, however many there are."""
    return seen(lambda: build_network(model, correlation="all-pairs"), on_frames(1, size))


def on_frames(batch: int, size: tuple[int, int]) -> Callable[[Any], Problem]:
    """What a network for flow solves on pairs of frames (h, w)."""

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
    """Operations of an update, and weights; on pairs of frames (h, w), with all its predictions."""
    with FakeTensorMode():
        network, frames = build_network(model).train(), torch.empty(batch, 3, *crop)
        taken, _ = operations(
            lambda: torch.stack([flow.sum() for flow in network(frames, frames).flows]).sum().backward()
        )
        return taken, sum(tensor.numel() for tensor in network.state_dict().values())


@lru_cache(maxsize=None, typed=True)
def seen_unrolled_flow(model: UnrolledModel, size: tuple[int, int]) -> Seen:
    """Of a pair of frames (h, w), with a prediction after each iteration, which is counted with it."""
    with FakeTensorMode(), torch.no_grad():
        network, frames = build_network(model, correlation="all-pairs").eval(), torch.empty(1, 3, *size)
        once, twice = (
            operations(lambda steps=steps: network(frames, frames, steps=steps, record=range(1, steps + 1)))[0]
            for steps in (1, 2)
        )
    return Seen(2 * once - twice, twice - once, 0)


@lru_cache(maxsize=None, typed=True)
def of_vision(architecture: Architecture, batch: int, size: tuple[int, int]) -> Counted:
    """On images (h, w)."""
    return counted(lambda: MDEQ(architecture, VARIANTS["cifar-tiny"].equilibrium), on_images(batch, size))


@lru_cache(maxsize=None, typed=True)
def seen_vision(architecture: Architecture, size: tuple[int, int]) -> Seen:
    """Of an image (h, w)."""
    return seen(lambda: MDEQ(architecture, VARIANTS["cifar-tiny"].equilibrium), on_images(1, size))


def on_images(batch: int, size: tuple[int, int]) -> Callable[[Any], Problem]:
    """What an MDEQ solves on images (h, w)."""

    def pose(network: Any) -> Problem:
        injection = network.inject(torch.empty(batch, 3, *size))
        return Problem(network.map(injection), network.start(injection), lambda *state: network.head(state).sum())

    return pose


@lru_cache(maxsize=None, typed=True)
def of_sequence(model: Transformer, batch: int, length: int) -> Counted:
    """On segments with a full memory before them."""
    return counted(lambda: transformer(model), on_segments(model, batch, length))


@lru_cache(maxsize=None, typed=True)
def seen_sequence(model: Transformer, length: int) -> Seen:
    """Of a segment with a full memory before it."""
    return seen(lambda: transformer(model), on_segments(model, 1, length))


def transformer(model: Transformer) -> DEQTransformer:
    """That of the published vocabulary."""
    return DEQTransformer(model.architecture(WT103.vocabulary), model.equilibrium())


def on_segments(model: Transformer, batch: int, length: int) -> Callable[[Any], Problem]:
    """What a language model solves on segments with a full memory before them."""
    size = model.architecture(WT103.vocabulary)

    def pose(network: Any) -> Problem:
        embedded = torch.empty(batch, length, size.width, requires_grad=True)
        injections, before = network.injection(embedded), torch.empty(batch, model.memory, 3 * size.attention)
        positions = sinusoids(model.memory + length, size.width, like=embedded)
        context = network.cell.context(injections, torch.empty(batch, model.memory, size.width), before, positions)
        return Problem(lambda state: network.cell(state, context), [torch.zeros_like(embedded)], Tensor.sum)

    return pose
