"""Files of optical flow: Middlebury .flo, portable float maps, and KITTI's 16-bit PNG.

Tensors are channels-first. Readers raise `FileFormatError` for damaged files; writers never leave an incomplete file.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.data.images import FileFormatError, damaged, decode, encode
from deq_core.experiment.files import write_bytes
from deq_core.experiment.reading import read_bytes

FLO_MAGIC = b"PIEH"  # 202021.25 as little-endian float32
PFM_HEADER = 128  # bytes, enough for any header
KITTI_FLOW = ("flow_occ", "flow_noc")  # folders of its flow: of all pixels, and of non-occluded ones
KITTI_SCALE = 64.0  # steps per pixel
KITTI_OFFSET = 2.0**15
KITTI_RANGE = (-KITTI_OFFSET / KITTI_SCALE, (2**16 - 1 - KITTI_OFFSET) / KITTI_SCALE)  # [-512, 512) pixels


def read_flo(path: Path) -> Tensor:
    """float32 (2, h, w), pixels, from Middlebury's format: magic, int32 width and height, interleaved (u, v) rows."""
    data = read_bytes(path, FileFormatError)
    height, width = flo_size(path, data[:12], len(data))
    flow = np.frombuffer(data, dtype="<f4", offset=12).reshape(height, width, 2)
    return torch.from_numpy(rearrange(flow, "h w xy -> xy h w").astype(np.float32, order="C"))


def flo_size(path: Path, start: bytes, length: int) -> tuple[int, int]:
    """Height and width of flow in a .flo file of `length` bytes that begins with `start`.

    Raises:
        FileFormatError: it is not a .flo file, or its length does not fit its header.
    """
    if start[:4] != FLO_MAGIC or len(start) < 12:
        raise damaged(path, f"a .flo file starting with {FLO_MAGIC!r} and a size", f"{start[:4]!r}, {length} bytes")
    width, height = (int(n) for n in np.frombuffer(start, dtype="<i4", count=2, offset=4))
    if width < 1 or height < 1 or length != 12 + 8 * width * height:
        raise damaged(path, f"12 + 8 * {width} * {height} bytes of {width}x{height} flow", f"{length} bytes in all")
    return height, width


def write_flo(path: Path, flow: Tensor) -> None:
    """Writes float32 (2, h, w), pixels, in Middlebury's format."""
    _, height, width = check_flow(path, flow)
    header = FLO_MAGIC + np.array([width, height], dtype="<i4").tobytes()
    write_bytes(path, header + rearrange(flow, "xy h w -> h w xy").numpy().astype("<f4", order="C").tobytes())


def read_pfm(path: Path) -> Tensor:
    """float32 (1, h, w) or (3, h, w) from a portable float map of either byte order; the file's rows are bottom up.

    Values are as stored: of the scale in the header, only the sign is used, which is the byte order.
    """
    data = read_bytes(path, FileFormatError)
    header = pfm_header(path, data[:PFM_HEADER], len(data))
    values = np.frombuffer(data, dtype=header.dtype, offset=header.length).reshape(header.shape)
    return torch.from_numpy(rearrange(values[::-1], "h w c -> c h w").astype(np.float32, order="C"))


@dataclass(frozen=True)
class PfmHeader:
    """The header of a portable float map."""

    shape: tuple[int, int, int]
    """Height, width, channels."""
    dtype: str
    length: int
    """Length of the header, bytes."""


def pfm_header(path: Path, start: bytes, length: int) -> PfmHeader:
    """The header of a portable float map of `length` bytes that begins with `start`.

    Raises:
        FileFormatError: it is not a portable float map, or its length does not fit its header.
    """
    header = re.match(rb"(PF|Pf)\s+(\d{1,9})\s+(\d{1,9})\s+(-?)(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?\s", start)
    if header is None:
        raise damaged(path, "a header 'PF width height scale' or 'Pf ...'", repr(start[:24]))
    channels = 3 if header[1] == b"PF" else 1
    width, height = int(header[2]), int(header[3])
    expected = 4 * channels * width * height
    if length - header.end() != expected or expected == 0:
        raise damaged(
            path,
            f"4 * {channels} * {width} * {height} = {expected} bytes after the header",
            f"{length - header.end()}",
        )
    return PfmHeader((height, width, channels), "<f4" if header[4] else ">f4", header.end())


def write_pfm(path: Path, values: Tensor) -> None:
    """Writes float32 (1, h, w) or (3, h, w) as a little-endian portable float map."""
    if values.dtype != torch.float32 or values.ndim != 3 or values.shape[0] not in (1, 3):
        raise ValueError(f"{path}: expected float32 (1 or 3, h, w), got {values.dtype} {tuple(values.shape)}")
    channels, height, width = values.shape
    header = f"{'PF' if channels == 3 else 'Pf'}\n{width} {height}\n-1.0\n".encode()
    write_bytes(path, header + rearrange(values, "c h w -> h w c").numpy()[::-1].astype("<f4", order="C").tobytes())


def read_kitti(path: Path) -> tuple[Tensor, Tensor]:
    """float32 flow (2, h, w), pixels, and bool validity (h, w) from KITTI's 16-bit PNG.

    Its channels are u * 64 + 2**15, v * 64 + 2**15, and validity. Flow is zero where it is not valid.
    """
    stored = decode(path, cv2.IMREAD_UNCHANGED)
    if stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] != 3:
        raise damaged(path, "a 16-bit PNG of three channels", f"{stored.dtype} of shape {stored.shape}")
    valid = stored[:, :, 0] > 0  # OpenCV reads the channels as valid, v, u
    flow = rearrange(stored[:, :, :0:-1], "h w xy -> xy h w").astype(np.float32, order="C")
    flow -= KITTI_OFFSET
    flow /= KITTI_SCALE
    flow[:, ~valid] = 0
    return torch.from_numpy(flow), torch.from_numpy(valid)


def write_kitti(path: Path, flow: Tensor, valid: Tensor) -> None:
    """Writes float32 (2, h, w), pixels, where `valid`, bool (h, w), is true, rounded to 1/64 pixel.

    Raises:
        ValueError: a component at a valid pixel is outside the format's range of -512 to 511.98 pixels.
    """
    check_flow(path, flow)
    known = rearrange(flow, "xy h w -> h w xy").numpy().astype(np.float64)
    mask = valid.numpy()
    low, high = KITTI_RANGE
    if mask.any() and not ((known[mask] >= low) & (known[mask] <= high)).all():
        raise ValueError(f"{path}: KITTI flow must lie in [{low}, {high:.3f}] pixels; mark other pixels as not valid")
    steps = np.rint(np.where(mask[:, :, None], known, 0) * KITTI_SCALE + KITTI_OFFSET)
    stored = np.concatenate([np.ones_like(steps[:, :, :1]), steps[:, :, ::-1]], axis=2)
    encode(path, np.where(mask[:, :, None], stored, 0).astype(np.uint16))


def check_flow(path: Path, flow: Tensor) -> tuple[int, int, int]:
    """The shape of a float32 flow (2, h, w).

    Raises:
        ValueError: it has another type or shape.
    """
    if flow.dtype != torch.float32 or flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"{path}: expected float32 flow (2, h, w), got {flow.dtype} {tuple(flow.shape)}")
    return 2, flow.shape[1], flow.shape[2]
