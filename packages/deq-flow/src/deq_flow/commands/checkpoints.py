"""Commands for checkpoint files."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import deq_core as deq
from deq_core.experiment.commands import CHECKPOINT, FILE, Positional, finish
from deq_flow.export import ExportError, Format
from deq_flow.export import export as export_network
from deq_flow.networks import convert as convert_file
from deq_flow.networks import load


def convert(source: Annotated[Path, Positional], out: Annotated[Path, Positional, CHECKPOINT]) -> None:
    """Writes the network in a released file SOURCE (.pth) to OUT (.safetensors), and what it is to config.json beside.

    DEQ-Flow of versions 1 and 2 and of torchdeq's zoo, RAFT, GMA and torchvision's RAFT are recognised from names and
    shapes. A file that is none of them, or not whole, is refused with everything that is wrong.

    Args:
        source: the released file.
        out: where to write.
    """
    about = convert_file(source, out)
    size = about.architecture
    print(
        f"{source}: {about.family}, hidden {size.hidden}, context {size.context}, features {size.features}, "
        f"flow head {size.head}, attention {size.attention}, weight normalisation {about.weight_norm}"
    )
    finish({"bytes": out.stat().st_size})


def export(
    checkpoint: Annotated[str, Positional],
    format: Format,
    out: Annotated[Path, FILE],
    steps: int,
    solver: Literal["own", "fixed_point_iteration"] = "own",
) -> None:
    """Writes the network in CHECKPOINT, with a fixed number of steps, to OUT, and checks the file.

    OUT is a program of torch.export (.pt2) or ONNX for any batch and image size: its inputs are image1 and image2,
    (B, 3, H, W) of values 0 to 255, its output is flow, (B, 2, H, W) in pixels. A network with scales has a third
    input, base: the flow of the scale before, (B, 2, H, W) in pixels, zero at the coarsest.

    Args:
        checkpoint: a shipped name, a folder that training wrote, a file of weights (.safetensors), or a released file
            (.pth).
        format: of the file.
        out: where to write.
        steps: evaluations of the update, as many for every pair.
        solver: the network's own, or plain iteration, the only one that ONNX can express.
    """
    overrides = {} if solver == "own" else {"solver": deq.FixedPointIteration()}
    network = load(checkpoint, **overrides)
    try:
        result = export_network(network, out, format=format, steps=steps)
    except ExportError as error:
        sys.exit(f"deq-flow export: {error}")
    metrics = {"bytes": out.stat().st_size, "largest": result.largest}
    finish(metrics if result.difference is None else {**metrics, "difference": result.difference})
