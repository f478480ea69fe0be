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
    """Converts the released checkpoint SOURCE (.pth) to OUT (.safetensors), with a config.json beside it.

    DEQ-Flow versions 1 and 2, DEQ-Flow of torchdeq's model zoo, RAFT, GMA and torchvision's RAFT are recognised by the
    names and shapes of their tensors. Any other or incomplete file is refused, with a list of all differences.

    Args:
        source: released file.
        out: file to write.
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
    """Exports the network in CHECKPOINT, with a fixed number of steps, to the file OUT, and checks the file.

    OUT is a torch.export program (.pt2) or an ONNX model for any batch size and image size. Inputs: image1 and image2,
    (B, 3, H, W), values 0 to 255. Output: flow, (B, 2, H, W), in pixels. A coarse-to-fine network has a third input,
    base: the flow of the next coarser scale, (B, 2, H, W), in pixels; zero at the coarsest scale.

    Args:
        checkpoint: a shipped name, a folder written by training, a weights file (.safetensors), or a released file
            (.pth).
        format: file format.
        out: file to write.
        steps: evaluations of the update, the same number for every pair.
        solver: the network's own, or plain fixed-point iteration, the only solver that ONNX can express.
    """
    overrides = {} if solver == "own" else {"solver": deq.FixedPointIteration()}
    network = load(checkpoint, **overrides)
    try:
        result = export_network(network, out, format=format, steps=steps)
    except ExportError as error:
        sys.exit(f"deq-flow export: {error}")
    metrics = {"bytes": out.stat().st_size, "largest": result.largest}
    finish(metrics if result.difference is None else {**metrics, "difference": result.difference})
