"""The delta rule: affine layers that compute only with changes of their input."""

import copy
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from .._scope.scope import Scope, current_scope
from .._solve.modes import may_look
from .._solve.norms import measured
from ..nn.weight_norm import affine_layers
from .meter import DeltaMeter, spatial_rank

Module = TypeVar("Module", bound=nn.Module)
Reference = Literal["seen", "sent"]


def to_delta(
    module: Module,
    threshold: float | Mapping[str, float],
    *,
    skip: Sequence[str] = (),
    reference: Reference = "seen",
    relative: bool = False,
    schedule: Callable[[int], float] | None = None,
    refresh_every: int | None = None,
    across_solves: bool = False,
) -> tuple[Module, DeltaMeter]:
    """Returns a copy of `module` with the same weights, whose affine layers follow the delta rule, and its meter.

    Each linear and convolution layer keeps its last input X and output Y. With d = x - X, and d set to zero where
    |d| ≤ threshold, it returns Y ← layer(d) + Y - bias (DeltaDEQ, NeurIPS 2024; the arithmetic of its release). At
    threshold 0 that is the dense layer up to rounding. A layer that is used twice in one evaluation keeps two memories.

    Memories last for one solve, or for the `solve_scope` around several solves, each of which continues from the last.
    Outside of both, in a compiled solve, and while autograd records, layers are dense and not counted. Within a solve
    the layers must be called by the forward of the copy, which tells their calls apart. Transposed convolutions stay
    dense. In-place activations of the copy become out-of-place, since they would write into the memories.

    Args:
        module: the cell. It is not changed.
        threshold: magnitude, at least 0, up to which changes are skipped; or one for each name of a layer or of a
            module with layers, of which the longest matching name counts.
        skip: names of layers that stay dense, or of modules whose layers do.
        reference: what becomes X. "seen", the release's rule, is the whole new input, so that changes which stay below
            the threshold are lost. "sent" is only what was sent, so that they add up until they exceed it.
        relative: whether the threshold is relative to the root mean square of each sample's input.
        schedule: number of the evaluation since the solve or `solve_scope` began, from 1, → factor of the threshold.
        refresh_every: number of evaluations, at least 1, after which one is dense again, which bounds the drift.
        across_solves: whether memories are kept from solve to solve, for video, as long as shapes and weights stay the
            same. Memories that are not finite are dropped after their solve, and `DeltaMeter.forget` drops all. They
            are those of one stream, so two threads may not solve at once.

    Raises:
        ValueError: a name that matches nothing, no layer left, a layer without a threshold, one whose padding is not
            zeros, or an argument out of range.
    """
    if reference not in get_args(Reference):
        raise ValueError(f"reference must be 'seen' or 'sent', got {reference!r}")
    if refresh_every is not None and refresh_every < 1:
        raise ValueError(f"refresh_every must be None or at least 1 step, got {refresh_every!r}")
    # deepcopy takes tensors in the memo as already copied, so the copy shares parameters and buffers.
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    delta = copy.deepcopy(module, shared)
    layers = [(n, layer) for n, layer in affine_layers(delta, skip) if not isinstance(layer, _ConvTransposeNd)]
    thresholds = _per_layer(threshold, [name for name, _ in layers], delta)
    meter = DeltaMeter([name for name, _ in layers])
    kept = {} if across_solves else None
    engine = _Engine(reference, relative, schedule, refresh_every, meter, [layer for _, layer in layers], kept)
    meter._memories = engine.kept
    for name, layer in layers:
        if isinstance(layer, _ConvNd) and layer.padding_mode != "zeros":
            raise ValueError(f"{name!r} pads with {layer.padding_mode!r}; the delta rule counts zeros: skip it")
        layer.forward = _Rule(engine, name, layer, thresholds[name])
    for part in delta.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # pyright: ignore[reportArgumentType]  a plain attribute of activations
    delta.register_forward_pre_hook(engine.begin)
    delta.register_forward_hook(engine.end, always_call=True)
    return delta, meter


@dataclass
class _Memory:
    """The memory of one call of a layer."""

    x: Tensor
    y: Tensor
    evaluations: int

    def __post_init__(self) -> None:
        self.versions = self._versions()
        # Inference tensors have no version counter: compare them with copies, once, as a cell does the same every time.
        self.copies = [(x, x.clone()) for x in (self.x, self.y) if self.evaluations == 1 and x.is_inference()]

    def untouched(self) -> bool:
        """Whether neither tensor was changed in place."""
        copies, self.copies = self.copies, []
        same = all(torch.allclose(x, copy, rtol=0, atol=0, equal_nan=True) for x, copy in copies)
        return same and self.versions == self._versions()

    def finite(self) -> Tensor:
        """Whether both tensors are finite, ()."""
        return self.x.isfinite().all() & self.y.isfinite().all()

    def _versions(self) -> list[int]:
        return [tensor._version for tensor in (self.x, self.y) if not tensor.is_inference()]


@dataclass
class _Engine:
    """The options that all layers share, and the calls of the evaluation that each thread is running."""

    reference: Reference
    relative: bool
    schedule: Callable[[int], float] | None
    refresh_every: int | None
    meter: DeltaMeter
    layers: list[nn.Module]
    kept: dict[object, Any] | None
    calls: dict[int, dict[str, int]] = field(default_factory=dict)
    user: tuple[weakref.ref[Scope], int] | None = None
    step: int | None = None
    weights: list[tuple[Tensor, int]] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "calls": {}, "user": None, "weights": []}

    def begin(self, module: nn.Module, inputs: Any) -> None:
        """Begins an evaluation of the cell."""
        self.calls[_thread()] = {}
        if self.kept is not None and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._go_on(self.kept, current_scope())

    def end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Ends the evaluation."""
        self.calls.pop(_thread(), None)

    def site(self, name: str) -> tuple[dict[object, Any], object] | None:
        """The dictionary and key of this call's memory; None if the layer is to be dense."""
        if torch.is_grad_enabled():
            return None
        memories, scope = self.kept, current_scope()
        if memories is None:
            if scope is None:
                return None
            memories = scope.once(self.meter, "memories", dict)
        calls = self.calls.get(_thread())
        if calls is None:
            raise ValueError(
                f"layer {name!r} was called on its own: within a solve, call the module that to_delta returned, whose "
                "forward tells its calls apart"
            )
        call = calls.get(name, 0)
        calls[name] = call + 1
        return memories, (name, call)

    def _go_on(self, kept: dict[object, Any], scope: Scope | None) -> None:
        """Continues the solve that uses the kept memories, or begins another one.

        Raises:
            RuntimeError: a solve of another thread uses the memories.
        """
        user, thread = (None, 0) if self.user is None else (self.user[0](), self.user[1])
        if scope is not None and user is scope:
            self.step = None if self.step is None else self.step + 1
            return
        if scope is not None and kept and user is not None and thread != _thread():  # allowed after `DeltaMeter.forget`
            raise RuntimeError(
                "two threads solve at once with one cell by to_delta(..., across_solves=True), whose memories are "
                "those of one stream: make a copy of its own for each thread"
            )
        self.user, self.step = (None, None) if scope is None else ((weakref.ref(scope), _thread()), 1)
        self._drop_stale(kept)

    def _drop_stale(self, kept: dict[object, Any]) -> None:
        """Drops memories that are not finite, or all if the weights of a layer have changed."""
        weights = [(x, 0 if x.is_inference() else x._version) for layer in self.layers for x in _tensors(layer)]
        if [(id(x), version) for x, version in weights] != [(id(x), version) for x, version in self.weights]:
            kept.clear()
        self.weights = weights
        if kept:
            finite = torch.stack([memory.finite() for memory in kept.values()]).tolist()
            for key in [key for key, good in zip(kept, finite, strict=True) if not good]:
                del kept[key]


def _tensors(layer: nn.Module) -> list[Tensor]:
    return [*layer.parameters(), *layer.buffers()]


def _thread() -> int:
    # torch.compile traces one thread, and cannot trace get_ident.
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class _Rule:
    """The forward of one layer under the delta rule."""

    def __init__(self, engine: _Engine, name: str, layer: nn.Module, threshold: float) -> None:
        self.engine, self.name, self.layer, self.threshold = engine, name, layer, threshold
        self.dense = layer.forward

    def __call__(self, x: Tensor) -> Tensor:
        site = self.engine.site(self.name)
        if site is None:
            return self.dense(x)
        memories, key = site
        memory: _Memory | None = memories.get(key)
        count = self.engine.meter.layers[self.name]
        evaluation = 1 if memory is None else memory.evaluations + 1
        every = self.engine.refresh_every
        fits = memory is not None and (memory.x.shape, memory.x.dtype, memory.x.device) == (x.shape, x.dtype, x.device)
        if memory is None or not fits or (every is not None and (evaluation - 1) % every == 0):
            y = self.dense(x)
            count.add(self.layer, x, y, x, dense=True)
            memories[key] = _Memory(x, y, evaluation if fits else 1)
            return y
        if not memory.untouched():
            raise ValueError(
                f"the input or output of layer {self.name!r} was changed in place after it was computed, and the delta "
                "rule remembers both: use out-of-place operations in the cell (relu, not relu_)"
            )
        change = x - memory.x
        # A NaN is sent: if it were skipped, it would go unnoticed.
        change = torch.where(change.abs() <= self._size(x, evaluation), 0.0, change)
        sent = self.dense(change)
        y, bias = sent + memory.y, self.layer.bias
        if isinstance(bias, Tensor):
            # The bias as the layer has added it, rounded under autocast: otherwise errors add up from step to step.
            y = y - bias.to(sent.dtype).reshape(-1, *[1] * spatial_rank(self.layer))
        count.add(self.layer, change, y, x, dense=False)
        memories[key] = _Memory(x if self.engine.reference == "seen" else memory.x + change, y, evaluation)
        return y

    def _size(self, x: Tensor, evaluation: int) -> Tensor | float:
        step = evaluation if self.engine.step is None else self.engine.step
        size = self.threshold * (1.0 if self.engine.schedule is None else self.engine.schedule(step))
        if not self.engine.relative:
            return size
        return size * measured(_root_mean_square, x, look=may_look(x)).value()


def _root_mean_square(x: Tensor) -> Tensor:
    """Root mean square of each sample, (B, 1, ...)."""
    return x.square().mean(dim=tuple(range(1, x.dim())), keepdim=True).sqrt()


def _per_layer(threshold: float | Mapping[str, float], names: list[str], module: nn.Module) -> dict[str, float]:
    """The threshold of each layer."""
    given = threshold if isinstance(threshold, Mapping) else {"": threshold}
    known = dict(module.named_modules())
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"threshold names no module: {unknown}; there are {[name for name in known if name]}")
    if negative := [name or "threshold" for name, value in given.items() if not value >= 0]:
        raise ValueError(f"a threshold must be at least 0: {negative}")
    found = {}
    for name in names:
        matches = [key for key in given if key in ("", name) or name.startswith(f"{key}.")]
        if not matches:
            raise ValueError(f"threshold has no value for layer {name!r}; name it, a module around it, or skip it")
        found[name] = given[max(matches, key=len)]
    return found
