"""Small data sets, Sintel and KITTI with every kind of mask, and networks small enough to run on them at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.data.images import write_image, write_mask
from deq_flow import build
from deq_flow.data.io import write_flo, write_kitti, write_pfm
from deq_flow.data.mini.training import TrainingSetsConfig
from deq_flow.data.mini.videos import VideosConfig
from deq_flow.data.mini.write import MiniConfig
from deq_flow.models import RAFT, DEQFlow
from deq_flow.networks import build_network
from deq_flow.params import EquilibriumModel, Model

SCENES = {"alley_1": 4, "market_2": 3}
"""Frames of each scene of Sintel."""


def write_sintel(root: Path, split: str = "training", *, height: int = 32, width: int = 48) -> Path:
    """Noise that moves by a few pixels a frame, with flow, occlusions and invalid masks for the training split."""
    generator = torch.Generator().manual_seed(0)
    folder = root / "Sintel" / split
    for scene, frames in SCENES.items():
        texture = 255 * torch.rand(1, 3, 24, 24, generator=generator)
        wide = torch.nn.functional.interpolate(texture, (2 * height, 2 * width), mode="bicubic").clamp(0, 255)
        for frame in range(1, frames + 1):
            view = wide[0, :, 2 * frame : 2 * frame + height, 3 * frame : 3 * frame + width].to(torch.uint8)
            name = f"{scene}/frame_{frame:04d}"
            for render in ("clean", "final"):
                write_image(folder / render / f"{name}.png", view if render == "clean" else view // 2 + 60)
            if split == "training" and frame < frames:
                flow = torch.tensor([-3.0, -2.0])[:, None, None].repeat(1, height, width)
                flow[0, :4] = -20.0  # a fast part
                write_flo(folder / "flow" / f"{name}.flo", flow)
                for kind in ("occlusions", "invalid"):
                    mask = torch.rand(height, width, generator=generator) < 0.2
                    write_mask(folder / kind / f"{name}.png", mask)
    return root


def write_kitti_set(root: Path, split: str = "training", *, pairs: int = 2, height: int = 30, width: int = 45) -> Path:
    """Noise of a size that needs padding; the training split has flow at random pixels, some of them occluded."""
    generator = torch.Generator().manual_seed(1)
    folder = root / "KITTI" / split
    for index in range(pairs):
        for suffix in (10, 11):
            noise = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
            write_image(folder / "image_2" / f"{index:06d}_{suffix}.png", noise)
        if split == "training":
            flow = 4 * torch.randn(2, height, width, generator=generator)
            known = torch.rand(height, width, generator=generator) < 0.5
            seen = known & (torch.rand(height, width, generator=generator) < 0.7)
            for kind, valid in (("flow_occ", known), ("flow_noc", seen)):
                write_kitti(folder / kind / f"{index:06d}_10.png", flow, valid)
    return root


def write_flow(path: Path, flow: Tensor, valid: Tensor | None = None) -> None:
    """Flow (2, h, w) in the format of the suffix; a .png has it where it is valid, without `valid` everywhere."""
    match path.suffix:
        case ".flo":
            write_flo(path, flow)
        case ".pfm":
            write_pfm(path, torch.cat([flow, torch.zeros_like(flow[:1])]))
        case ".flo5":
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as file:
                file.create_dataset("flow", data=flow.permute(1, 2, 0).numpy(), compression="gzip")
        case _:
            write_kitti(path, flow, torch.ones(flow.shape[1:], dtype=torch.bool) if valid is None else valid)


def equilibrium() -> DEQFlow:
    """A random DEQ-Flow for images of quarter scale, in evaluation mode, the same every time."""
    torch.manual_seed(0)
    network = build("deq-flow-mini").eval()
    assert isinstance(network, DEQFlow)
    return network


def unrolled() -> RAFT:
    """A random RAFT for images of quarter scale, in evaluation mode, the same every time."""
    torch.manual_seed(0)
    network = build("raft-mini").eval()
    assert isinstance(network, RAFT)
    return network


def equilibrium_model(steps: int = 2, **choices: Any) -> EquilibriumModel:
    """A DEQ-Flow that is solved by so many plain iterations, with a gradient of one phantom step."""
    stop, adjoint = StopConfig(max_steps=steps), deq.Phantom(steps=1)
    layer = LayerConfig(solver=deq.FixedPointIteration(), stop=stop, adjoint=adjoint)
    return EquilibriumModel(name="deq-flow-mini", layer=layer, **choices)


def store(folder: Path, model: Model, *, seed: int = 0) -> Path:
    """Writes a random network to a folder, as training leaves it."""
    torch.manual_seed(seed)
    checkpoint.save(folder / "model.safetensors", build_network(model), model)
    return folder


def mini(**changes: Any) -> MiniConfig:
    """Miniature sets with hardly anything in them."""
    least = MiniConfig(
        height=24,
        width=32,
        train_pairs=2,
        val_pairs=1,
        scenes=1,
        frames=3,
        kitti_pairs=2,
        motorcycle_scale=8,
        training=TrainingSetsConfig(things_scenes=1, sintel_scenes=1, frames=2, kitti_pairs=1, hd1k_sequences=1),
        videos=VideosConfig(videos=1, frames=2),
        validation_videos=VideosConfig(videos=1, frames=2),
    )
    return replace(least, **changes)
