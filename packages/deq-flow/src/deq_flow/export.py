"""Networks of a fixed number of iterations and a fixed size, as TorchScript or ONNX files."""

import copy
import importlib.util
import io
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.errors import UserError
from deq_core.experiment.files import require_writable, write_bytes
from deq_flow.finite import require_finite
from deq_flow.models.compat.convert import Recognised, network_of
from deq_flow.models.deq_flow import DEQFlow
from deq_flow.networks import Network

Format = Literal["torchscript", "onnx"]
Pair = tuple[Tensor, Tensor]
OPSET = 18
"""Of the ONNX operators used; grid sampling is not among them, because the correlation lookup does without."""

LINEAR = (deq.Anderson, deq.TypeOneAnderson, deq.Broyden)
"""Solvers that solve linear systems."""


class ExportError(UserError, RuntimeError):
    """An export that is not possible, or whose numbers are not the network's."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    difference  largest difference between the file's flow and the network's on images it was not made with, pixels;
                None where the check could not run because onnxruntime is not installed
    largest     largest component of the network's flow there, pixels
    """

    difference: float | None
    largest: float


class FixedSteps(nn.Module):
    """A network as plain tensor operations: `steps` evaluations, then the flow that the network itself returns.

    Weight normalisation is resolved. Of a DEQ-Flow the solver's steps are laid out one after the other, and the state
    with the lowest residual counts, sample by sample.
    """

    def __init__(self, network: Network, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.network = plain(network)
        if isinstance(self.network, DEQFlow) and self.network.equilibrium.returned != "best":
            raise ExportError(
                f"returned={self.network.equilibrium.returned!r} cannot be exported; load with returned='best'"
            )

    def forward(self, image1: Tensor, image2: Tensor) -> Tensor:
        """Flow (B, 2, H, W), pixels, from images (B, 3, H, W) of values 0..255."""
        network = self.network
        if not isinstance(network, DEQFlow):
            return network(image1, image2, steps=self.steps, record=()).flow
        choice = network.equilibrium
        pair = network.encode(image1, image2)
        f, start = network.map(pair), network.start(pair)
        sizes = [part[0].numel() for part in start]

        def flat(state: tuple[Tensor, Tensor]) -> Tensor:
            return torch.cat([part.flatten(1) for part in state], dim=1)

        def parts(z: Tensor) -> tuple[Tensor, Tensor]:
            hidden, unknown = z.split(sizes, dim=1)
            return hidden.view(start[0].shape), unknown.view(start[1].shape)

        z = best = flat(start)
        stop = deq.Stop(self.steps, tol=None, relative=choice.stop.relative, norm=choice.stop.norm)
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
        found = (lowest < torch.inf)[:, None, None, None]  # as `flow_found` says
        return pair.finish(torch.where(found, network.flow_of(unknown, pair), torch.nan), hidden)


def plain(network: Network) -> Network:
    """A copy in evaluation mode, without weight normalisation."""
    if not isinstance(network, DEQFlow) or not network.equilibrium.weight_norm:
        return copy.deepcopy(network).eval()
    choices = {field.name: getattr(network.equilibrium, field.name) for field in fields(network.equilibrium)}
    found = Recognised(network.state_dict(), "deq-flow", network.size, weight_norm=True)
    plain_network = network_of(found, **choices | {"weight_norm": False})
    return plain_network.to(next(network.parameters()).dtype)


def export(network: Network, out: Path, *, format: Format, height: int, width: int, steps: int) -> Exported:
    """Writes `network`, with `steps` evaluations for one pair of images (1, 3, height, width), to `out`, and checks it.

    The file's inputs are image1 and image2, float32 of values 0..255, its output flow (1, 2, height, width) in pixels.
    Raises ExportError where a number is out of range, the packages for it are missing, or the file computes something
    else than the network, and NonFiniteError where the network gives no flow; it is not written then.
    """
    for name, value, least in (("height", height, 16), ("width", width, 16), ("steps", steps, 1)):
        if value < least:
            raise ExportError(f"{name}: expected at least {least}, got {value}")
    require_writable(out, folder=False)
    network = copy.deepcopy(network).cpu().float().eval()
    module = FixedSteps(network, steps).requires_grad_(False)
    example, other = _images(0, height, width), _images(1, height, width)
    with torch.inference_mode():
        expected = network(*other, steps=steps).flow
    require_finite(expected[0], str(out))
    if format == "torchscript":
        data, flow = _torchscript(module, example, other)
    else:
        solver = network.equilibrium.solver if isinstance(network, DEQFlow) else None
        if isinstance(solver, LINEAR):
            raise ExportError(
                f"{type(solver).__name__} solves linear systems, which ONNX cannot express: "
                "load with solver=deq_core.FixedPointIteration()"
            )
        data, flow = _onnx(module, example, other)
    largest = float(expected.abs().max())
    difference = None if flow is None else float((flow - expected).abs().max())
    if difference is not None and not difference <= 1e-3 * max(1.0, largest):
        raise ExportError(
            f"{out}: the exported flow differs from the network's by {difference:.2g} pixels, of up to {largest:.2g}"
        )
    write_bytes(out, data)
    return Exported(difference, largest)


def _torchscript(module: nn.Module, example: Pair, other: Pair) -> tuple[bytes, Tensor]:
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # Of sizes that become constants, as they are meant to.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself: it was asked for
        torch.jit.save(torch.jit.trace(module, example, check_trace=False), buffer)
        buffer.seek(0)
        return buffer.getvalue(), torch.jit.load(buffer)(*other)


def _onnx(module: nn.Module, example: Pair, other: Pair) -> tuple[bytes, Tensor | None]:
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise ExportError(f"ONNX export needs {' and '.join(missing)}: pip install onnx onnxscript")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own code
        try:
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["image1", "image2"],
                output_names=["flow"],
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"ONNX cannot express this network: {_first_line(error)}") from error
    assert program is not None
    data = program.model_proto.SerializeToString()
    if importlib.util.find_spec("onnxruntime") is None:
        return data, None
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (flow,) = session.run(None, {"image1": other[0].numpy(), "image2": other[1].numpy()})
    return data, torch.from_numpy(flow)


def _first_line(error: BaseException) -> str:
    """Of the error at the bottom of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).partition("\n")[0]


def _images(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = 255 * torch.rand(2, 1, 3, height, width, generator=generator)
    return first, second
