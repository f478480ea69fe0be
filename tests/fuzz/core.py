"""Readers of `deq_core.experiment`."""

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from tests.fuzz.reader import Reader, digested, finite_numbers, like, same
from torch import Tensor, nn

from deq_core.experiment import config
from deq_core.experiment import tables as results
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.optim import OptimConfig
from deq_core.experiment.data import image_headers, images, released
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.download import fetch, unpack
from deq_core.experiment.download.resume import DownloadError
from deq_core.experiment.download.unpack import ArchiveError
from deq_core.experiment.errors import LayoutError
from deq_core.experiment.media import video, video_file
from deq_core.experiment.media.video import VideoError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A configuration with something of every kind."""

    optim: OptimConfig
    sizes: tuple[int, ...]
    scale: float
    name: str
    limit: int | None = None


DOCUMENT = """\
profile: mini
flow:
  optim: {name: adamw, lr: 1e-3, weight_decay: 0.1, schedule: cosine, warmup: 10}
  sizes: [1, 2, 3]
  scale: 0.5
  name: plain
  limit: 7
"""


def picture(height: int = 12, width: int = 16) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def content(name: str, data: bytes | str) -> Callable[[Path], Path]:
    """Writes a file of that name and content."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def encoded(suffix: str, pixels: Any = None) -> Callable[[Path], Path]:
    """Writes an image of that format."""

    def write(folder: Path) -> Path:
        stored = picture().permute(1, 2, 0).numpy() if pixels is None else pixels
        return content(f"image{suffix}", cv2.imencode(suffix, stored)[1].tobytes())(folder)

    return write


def write_video(folder: Path) -> Path:
    video_file.write(folder / "film.avi", [picture(), picture().flip(2)])
    return folder / "film.avi"


def write_checkpoint(folder: Path) -> Path:
    checkpoint.save(folder / "model.safetensors", small_network(), {"width": 4, "names": ["a", "b"]})
    return folder / "model.safetensors"


def write_saved(folder: Path, *, zipped: bool = True, beside: bool = False) -> Path:
    state: Any = small_network().state_dict()
    saved = {"state_dict": state, "epoch": 3, "optimizer": {"state": {}, "lr": 0.1}} if beside else state
    torch.save(saved, folder / "weights.pth", _use_new_zipfile_serialization=zipped)
    return folder / "weights.pth"


def write_state(folder: Path) -> Path:
    network = small_network()
    state = {"numbers": {"steps": 3}, "model": network.state_dict(), "history": [{"loss": 0.5}], "average": None}
    checkpoint.save_state(folder / "training.pt", state)
    return folder / "training.pt"


def write_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"set/{number}.txt", f"file {number} " * 40)
    return folder / "set.zip"


def write_tar(folder: Path, name: str, mode: Any) -> Path:
    with tarfile.open(folder / name, mode) as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"set/{number}.txt")
            data = f"file {number} ".encode() * 40
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return folder / name


def unpacked(path: Path) -> dict[str, bytes]:
    out = path.parent / "set"
    shutil.rmtree(out, ignore_errors=True)
    unpack.unpack(path, out)
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def write_rows(folder: Path) -> Path:
    rows = [{"name": "a", "epe": 0.5, "step": 1, "whole": True}, {"name": "b,c", "epe": 1e-9, "step": None}]
    results.write_rows(folder / "table.csv", rows)
    return folder / "table.csv"


def write_manifest(folder: Path) -> Path:
    return content("manifest.json", json.dumps({"root": str(folder), "files": {"a/b.png": 10}}))(folder)


IMAGE = (FileFormatError,)
READERS = (
    Reader("core/image.png", encoded(".png"), images.read_image, IMAGE, like),
    Reader("core/image.jpg", encoded(".jpg"), images.read_image, IMAGE, like, remarks=True),
    Reader("core/image.ppm", encoded(".ppm"), images.read_image, IMAGE, like),
    Reader("core/mask.png", encoded(".png"), images.read_mask, IMAGE, like),
    Reader("core/image.webp", encoded(".webp"), images.read_image, IMAGE, like),
    Reader("core/image.tiff", encoded(".tiff"), images.read_image, IMAGE, like),
    Reader("core/image.bmp", encoded(".bmp"), images.read_image, IMAGE, like),
    Reader(
        "core/upright.jpg",
        encoded(".jpg"),
        lambda path: images.read_image(path, upright=True),
        IMAGE,
        like,
        remarks=True,
    ),
    Reader("core/size.jpg", encoded(".jpg"), image_headers.image_size, IMAGE, like),
    Reader("core/size.png", encoded(".png"), image_headers.whole_size, IMAGE, like),
    Reader("core/size.ppm", encoded(".ppm"), image_headers.whole_size, IMAGE, like),
    Reader("core/whole.png", encoded(".png"), lambda path: image_headers.whole_size(path, decoded=True), IMAGE, like),
    Reader("core/whole.jpg", encoded(".jpg"), lambda path: image_headers.whole_size(path, decoded=True), IMAGE, like),
    Reader(
        "core/video.avi", write_video, lambda path: list(video.frames(path)), (VideoError, *IMAGE), like, remarks=True
    ),
    Reader("core/weights.safetensors", write_checkpoint, digested(checkpoint.load_tensors), (CheckpointError,), same),
    Reader(
        "core/config.json",
        lambda folder: write_checkpoint(folder).with_name("config.json"),
        lambda path: checkpoint.load_config(path.with_name("model.safetensors")),
        (CheckpointError,),
        lambda original, value: True,  # any JSON
    ),
    Reader("core/weights.pth", write_saved, checkpoint.load_saved, (CheckpointError,), same),
    Reader(
        "core/weights-beside-others.pth",
        lambda folder: write_saved(folder, beside=True),
        checkpoint.load_saved,
        (CheckpointError,),
        same,
    ),
    Reader(
        "core/weights-of-old-torch.pth",
        lambda folder: write_saved(folder, zipped=False),
        checkpoint.load_saved,
        (CheckpointError,),
    ),
    Reader("core/training.pt", write_state, checkpoint.load_state, (CheckpointError,), same),
    Reader(
        "core/params.yaml",
        content("params.yaml", DOCUMENT),
        lambda path: config.load(Settings, path, "flow"),
        (ConfigError,),
    ),
    Reader(
        "core/params.json",
        content(
            "params.json",
            json.dumps(config.plain(Settings(optim=OptimConfig(name="sgd", lr=0.1), sizes=(1, 2), scale=1, name="a"))),
        ),
        lambda path: config.load(Settings, path),
        (ConfigError,),
    ),
    Reader("core/table.csv", write_rows, results.read_rows, (results.ResultsError,)),
    Reader(
        "core/metrics.json",
        content("metrics.json", '{"epe": 0.5, "f1_all": 3}'),
        results.read_metrics,
        (results.ResultsError,),
        finite_numbers,
    ),
    Reader("core/manifest.json", write_manifest, lambda path: released.located(path.parent), (LayoutError,)),
    Reader(
        "core/checksum.txt",
        content("a.tar.sha256", f"{'0a' * 32}  a.tar\n"),
        lambda path: fetch.recorded(path),
        (DownloadError,),
    ),
    Reader("core/archive.zip", write_zip, unpacked, (ArchiveError,), same),
    Reader("core/archive.tar", lambda folder: write_tar(folder, "set.tar", "w"), unpacked, (ArchiveError,)),
    Reader(
        "core/archive.tar.gz", lambda folder: write_tar(folder, "set.tar.gz", "w:gz"), unpacked, (ArchiveError,), same
    ),
    Reader(
        "core/archive.tar.bz2",
        lambda folder: write_tar(folder, "set.tar.bz2", "w:bz2"),
        unpacked,
        (ArchiveError,),
        same,
    ),
    Reader(
        "core/archive.tar.xz", lambda folder: write_tar(folder, "set.tar.xz", "w:xz"), unpacked, (ArchiveError,), same
    ),
)
