"""Export of networks with a fixed number of steps by `torch.export` or to ONNX, for any batch and image size."""

import copy
import importlib.util
import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.errors import UserError
from deq_core.experiment.files import require_writable, write_bytes
from deq_flow.config import Converted
from deq_flow.finite import require_finite
from deq_flow.models.compat.convert import Recognised, network_of
from deq_flow.models.deq_flow import DEQFlow
from deq_flow.networks import Network

Format = Literal["torch", "onnx"]
Inputs = tuple[Tensor, ...]
"""image1 and image2, and for a network with scales the flow of the coarser scale."""
OPSET = 18
"""Version of the ONNX operators. The correlation lookup does not need their grid sampling."""

LINEAR = (deq.Anderson, deq.TypeOneAnderson, deq.Broyden)
"""Solvers that solve linear systems."""


class ExportError(UserError, RuntimeError):
    """The export is not possible, or the file does not compute what the network does."""


@dataclass(frozen=True)
class Exported:
    """The result of the check of an exported file.

    Attributes:
        difference: largest difference, in pixels, between the file's flow and the network's on images other than those
            of the export; None if onnxruntime is not installed
        largest: largest component of the network's flow on these images, pixels
    """

    difference: float | None
    largest: float


class FixedSteps(nn.Module):
    """A network with a fixed number of steps, as plain tensor operations.

    Weight normalisation is fused into the weights. The correlation volume is stored, because its operations do not
    depend on the flow. For a DEQ-Flow, the solver's steps are unrolled, and the state with the lowest residual is
    selected for each sample.
    """

    def __init__(self, network: Network, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.network = plain(network)
        if isinstance(self.network, DEQFlow) and self.network.equilibrium.returned != "best":
            raise ExportError(
                f"returned={self.network.equilibrium.returned!r} cannot be exported; load with returned='best'"
            )

    def forward(self, image1: Tensor, image2: Tensor, base: Tensor | None = None) -> Tensor:
        """Flow (B, 2, H, W) in pixels, including `base`, from images (B, 3, H, W) of values 0..255."""
        network = self.network
        if not isinstance(network, DEQFlow):
            return network(image1, image2, steps=self.steps, record=(), base=base).flow
        choice = network.equilibrium
        pair = network.encode(image1, image2, base)
        f, start = network.map(pair), network.start(pair)
        size = start[0][0].numel()

        def flat(state: tuple[Tensor, Tensor]) -> Tensor:
            return torch.cat([part.flatten(1) for part in state], dim=1)

        def parts(z: Tensor) -> tuple[Tensor, Tensor]:
            return z[:, :size].view(start[0].shape), z[:, size:].view(start[1].shape)

        z = best = flat(start)
        stop = replace(choice.stop, max_steps=self.steps, tol=None).laid_out((size, start[1][0].numel()))
        lowest = torch.full_like(z[:, 0], torch.inf)
        memory = choice.solver.init(z, self.steps)
        for step in range(self.steps):
            fz = flat(f(*parts(z)))
            residual = stop.residual(z, fz)
            better = residual < lowest
            best = torch.where(better[:, None], fz, best)
            lowest = torch.where(better, residual, lowest)
            if step + 1 < self.steps:
                z, memory = choice.solver.step(z, fz, memory)
        hidden, unknown = parts(best)
        found = (lowest < torch.inf)[:, None, None, None]  # as in `flow_found`
        return pair.finish(torch.where(found, network.flow_of(unknown, pair), torch.nan), hidden)


def plain(network: Network) -> Network:
    """A copy in evaluation mode, without weight normalisation and with a stored correlation volume."""
    size = replace(network.size, correlation="all-pairs")
    if isinstance(network, DEQFlow) and network.equilibrium.weight_norm:
        about = Converted(family="deq-flow", architecture=size, weight_norm=True)
        choices = vars(replace(network.equilibrium, weight_norm=False))
        copied = network_of(Recognised(network.state_dict(), about), **choices).to(next(network.parameters()).dtype)
    else:
        copied = copy.deepcopy(network).eval()
        copied.size = size
    return copied


def export(network: Network, out: Path, *, format: Format, steps: int) -> Exported:
    """Writes `network`, with a fixed number of steps, to `out`, and checks the file on another batch of another size.

    The file's inputs are image1 and image2, float32 (B, 3, H, W) of values 0..255, its output is flow (B, 2, H, W) in
    pixels, for every B, and every H and W of at least `least_side`. It computes one scale. For a network with scales
    there is a third input, base, the flow (B, 2, H, W) of the scale before, or zero at the coarsest.
    Raises ExportError if `steps` is out of range, packages are missing, the format cannot express the network, or the
    file does not compute what the network does, and NonFiniteError if the network's flow is not finite; nothing is
    written then.
    """
    if steps < 1:
        raise ExportError(f"steps: expected at least 1, got {steps}")
    require_writable(out, folder=False)
    network = copy.deepcopy(network).cpu().float().eval()
    solver = network.equilibrium.solver if isinstance(network, DEQFlow) else None
    if format == "onnx" and isinstance(solver, LINEAR):
        raise ExportError(
            f"{type(solver).__name__} solves linear systems, which ONNX cannot express: "
            "choose --solver fixed_point_iteration, or load with solver=deq_core.FixedPointIteration()"
        )
    side = least_side(network)
    based = network.scales is not None
    other = _inputs(1, side, 2 * side + 3, based=based)
    with torch.inference_mode():
        expected = network(*other[:2], steps=steps, base=other[2] if based else None).flow
    require_finite(expected[0], str(out))
    example = _inputs(2, 3 * side, 2 * side + 5, based=based)
    program = _program(FixedSteps(network, steps).requires_grad_(False), example)
    data, flow = _saved(program, other) if format == "torch" else _onnx(program, other)
    largest = float(expected.abs().max())
    difference = None if flow is None else float((flow - expected).abs().max())
    if difference is not None and not difference <= 1e-3 * max(1.0, largest):
        raise ExportError(
            f"{out}: the exported flow differs from the network's by {difference:.2g} pixels, of up to {largest:.2g}"
        )
    write_bytes(out, data)
    return Exported(difference, largest)


def least_side(network: Network) -> int:
    """Least side of images for an exported program, pixels: with it, correlation levels have at least two cells a side.

    The network itself does not pool sides of one cell. This depends on the size, so a program for all sizes cannot.
    """
    return network.size.scale * 2**network.size.levels


def _program(module: nn.Module, example: Inputs) -> torch.export.ExportedProgram:
    auto = torch.export.Dim.AUTO
    free = {0: auto, 2: auto, 3: auto}
    # with sizes that are symbols, comparing them for this cache takes a third of the tracing
    with torch.no_grad(), torch._dynamo.config.patch(fake_tensor_cache_enabled=False):
        return torch.export.export(module, example, dynamic_shapes=(free,) * len(example), strict=False)


def _saved(program: torch.export.ExportedProgram, other: Inputs) -> tuple[bytes, Tensor]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    with torch.no_grad():
        return buffer.getvalue(), torch.export.load(buffer).module()(*other)


def _onnx(program: torch.export.ExportedProgram, other: Inputs) -> tuple[bytes, Tensor | None]:
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise ExportError(f"ONNX export needs {' and '.join(missing)}: pip install onnx onnxscript")
    names = ["image1", "image2", "base"][: len(other)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own code
        try:
            translated = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=names,
                output_names=["flow"],
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"ONNX cannot express this network: {_first_line(error)}") from error
    assert translated is not None
    data = translated.model_proto.SerializeToString()
    if importlib.util.find_spec("onnxruntime") is None:
        return data, None
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (flow,) = session.run(None, {name: given.numpy() for name, given in zip(names, other, strict=True)})
    return data, torch.from_numpy(flow)


def _first_line(error: BaseException) -> str:
    """The first line of the error at the bottom of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).partition("\n")[0]


def _inputs(batch: int, height: int, width: int, *, based: bool) -> Inputs:
    generator = torch.Generator().manual_seed(batch)
    first, second = 255 * torch.rand(2, batch, 3, height, width, generator=generator)
    return (first, second, 4 * torch.randn(batch, 2, height, width, generator=generator)) if based else (first, second)
