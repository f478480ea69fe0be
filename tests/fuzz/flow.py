"""Readers of `deq_flow`."""

from pathlib import Path
from typing import Any

import torch
from tests.fuzz.core import content
from tests.fuzz.reader import Reader, digested, like, same

import deq_flow
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_core.experiment.data import arrays
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.errors import LayoutError
from deq_core.experiment.tables import ResultsError
from deq_flow.config import Converted
from deq_flow.data import flo5, headers, io
from deq_flow.data.sets import chairs
from deq_flow.models import RAFT, DEQFlow, build

SMALL: dict[str, Any] = {
    "stages": (4, 4, 4),
    "features": 8,
    "hidden": 8,
    "context": 4,
    "motion": 10,
    "head": 4,
    "mask": 4,
    "correlation_widths": (4,),
    "flow_widths": (4, 4),
}


def flow() -> torch.Tensor:
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def write_flo(folder: Path) -> Path:
    io.write_flo(folder / "a.flo", flow())
    return folder / "a.flo"


def write_pfm(folder: Path) -> Path:
    io.write_pfm(folder / "a.pfm", torch.cat([flow(), flow()[:1]]))
    return folder / "a.pfm"


def write_kitti(folder: Path) -> Path:
    (folder / "flow_occ").mkdir()
    io.write_kitti(folder / "flow_occ" / "a.png", flow(), flow()[0] > 0)
    return folder / "flow_occ" / "a.png"


def write_flo5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.flo5", "w") as file:
        file.create_dataset("flow", data=flow().permute(1, 2, 0).numpy(), compression="gzip")
    return folder / "a.flo5"


def write_arrays(folder: Path) -> Path:
    arrays.write_arrays(folder / "maps.npz", {"image": flow(), "steps": torch.arange(4)})
    return folder / "maps.npz"


def network() -> DEQFlow | RAFT:
    torch.manual_seed(0)
    return build("raft", **SMALL)


def write_released(folder: Path, *, wrapped: bool = False) -> Path:
    state = network().state_dict()
    named = {f"module.{name}": value for name, value in state.items()}
    torch.save({"model": named, "step": 7} if wrapped else state, folder / "raft.pth")
    return folder / "raft.pth"


def write_ours(folder: Path) -> Path:
    model = network()
    about = Converted(family="raft", architecture=model.size, weight_norm=False)
    checkpoint.save(folder / "model.safetensors", model, about)
    return folder / "model.safetensors"


FORMAT = (FileFormatError,)
LOADING = (CheckpointError, ConfigError)
READERS = (
    Reader("flow/flow.flo", write_flo, io.read_flo, FORMAT, like),
    Reader("flow/flow.pfm", write_pfm, io.read_pfm, FORMAT, like),
    Reader("flow/kitti.png", write_kitti, io.read_kitti, FORMAT, like),
    Reader("flow/flow.flo5", write_flo5, flo5.read_flo5, FORMAT, like),
    Reader("flow/size.flo", write_flo, headers.size_of, FORMAT, like),
    Reader("flow/size.pfm", write_pfm, headers.size_of, FORMAT, like),
    Reader("flow/size.png", write_kitti, headers.size_of, FORMAT, like),
    Reader("flow/size.flo5", write_flo5, headers.size_of, FORMAT, like),
    Reader(
        "flow/chairs_split.txt",
        content("chairs_split.txt", "1\n2\n1\n1\n"),
        lambda path: chairs.read_split(path.parent, pairs=4),
        (LayoutError,),
        like,
    ),
    Reader("flow/maps.npz", write_arrays, arrays.read_arrays, (ResultsError,), same),
    Reader("flow/raft.pth", write_released, deq_flow.load, LOADING, like),
    Reader("flow/raft-wrapped.pth", lambda folder: write_released(folder, wrapped=True), deq_flow.load, LOADING, like),
    Reader("flow/model.safetensors", write_ours, digested(deq_flow.load), LOADING, same),
    Reader(
        "flow/config.json",
        lambda folder: write_ours(folder).with_name("config.json"),
        lambda path: deq_flow.load(path.parent),
        LOADING,
        same,
    ),
)
