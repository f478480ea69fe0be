"""Where estimates go: videos of them, or pictures of a single one, and files of flow."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.data.images import encode, write_image, write_mask
from deq_core.experiment.files import write_bytes
from deq_core.experiment.media import video_file
from deq_flow.data.io import KITTI_RANGE, write_flo, write_kitti
from deq_flow.demo.consistency import confidence, occlusion
from deq_flow.demo.follow import Estimate
from deq_flow.demo.pictures import Scale, View, picture
from deq_flow.visualize import UNKNOWN, flow_to_rgb

Dump = Literal["flo", "kitti", "npz", "backward", "occlusion", "confidence"]
Product = View | Dump
"""What is kept of a video: views of its flow, and files of it."""

TWO_WAYS: frozenset[Product] = frozenset(("backward", "occlusion", "confidence"))
"""What takes the flow from the second frame to the first as well."""

Add = Callable[[Estimate], None]


@contextmanager
def outputs(
    folder: Path, products: Sequence[Product], *, fps: float, container: str, single: bool, max_speed: float | None
) -> Iterator[Add]:
    """A function that adds an estimate to every product; the files are whole when the block is left.

    Args:
        folder: for a video of each view, such as colour.mp4, or a .png where there is a single estimate, and a folder
            of each kind of file, such as flo, numbered from 000000.
        products: which of them.
        fps: of the videos.
        container: suffix of the videos; see `video_file.CODECS`.
        single: whether there will be one estimate only.
        max_speed: speed of full colour, pixels; None follows the video. A flow with a warning has its own, and no say
            in what comes after it.
    """
    with ExitStack() as stack:
        views = [view for view in get_args(View) if view in products]
        dumps = [dump for dump in get_args(Dump) if dump in products]
        shows: dict[View, Callable[[Tensor], None]] = {
            view: write_to(folder / f"{view}.png")
            if single
            else stack.enter_context(video_file.writer(folder / f"{view}{container}", fps))
            for view in views
        }
        scale, count = Scale(), 0

        def add(estimate: Estimate) -> None:
            nonlocal scale, count
            shown = scale.after(estimate.flow)
            scale = shown if estimate.warning is None else scale
            speed = shown.speed if max_speed is None else max_speed
            colours = cache(lambda: flow_to_rgb(estimate.flow, speed))  # once for all views of them
            for view, show in shows.items():
                show(picture(view, estimate, colours))
            for dump in dumps:
                DUMPS[dump](folder / dump / f"{count:06d}", estimate)
            count += 1

        yield add


def write_to(path: Path) -> Callable[[Tensor], None]:
    """A function that writes an image to `path`."""
    return lambda image: write_image(path, image)


def dump_flo(place: Path, estimate: Estimate) -> None:
    """Middlebury's format: exact, and its mark of unknown motion where the flow is not finite."""
    write_flo(place.with_suffix(".flo"), marked_unknown(estimate.flow))


def dump_kitti(place: Path, estimate: Estimate) -> None:
    """KITTI's 16-bit PNG: to 1/64 pixel; what moves too far for the format is not valid, nor what is not finite."""
    low, high = KITTI_RANGE
    valid = ((estimate.flow >= low) & (estimate.flow <= high)).all(dim=0)
    write_kitti(place.with_suffix(".png"), estimate.flow, valid)


def dump_npz(place: Path, estimate: Estimate) -> None:
    """A compressed archive of `flow`, float32 (2, h, w)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, flow=estimate.flow.numpy())
    write_bytes(place.with_suffix(".npz"), buffer.getvalue())


def dump_backward(place: Path, estimate: Estimate) -> None:
    """The flow from the second frame to the first in Middlebury's format."""
    write_flo(place.with_suffix(".flo"), marked_unknown(backward_of(estimate)))


def dump_occlusion(place: Path, estimate: Estimate) -> None:
    """A grey PNG, 255 where what the first frame shows is out of sight in the second."""
    write_mask(place.with_suffix(".png"), occlusion(estimate.flow, backward_of(estimate)))


def dump_confidence(place: Path, estimate: Estimate) -> None:
    """A grey PNG, 255 where the flow leads back to where it began, and less the further it does not."""
    level = 255 * confidence(estimate.flow, backward_of(estimate))
    encode(place.with_suffix(".png"), level.round().to(torch.uint8).numpy())


def marked_unknown(flow: Tensor) -> Tensor:
    """The flow (2, h, w) with Middlebury's mark of unknown motion where it is not finite."""
    return torch.where(flow.isfinite().all(dim=0), flow, 10 * UNKNOWN)


def backward_of(estimate: Estimate) -> Tensor:
    """The flow from the second frame to the first, (2, h, w)."""
    if estimate.backward is None:
        raise ValueError("expected an estimate with its backward flow; call follow(..., backward=True)")
    return estimate.backward.flow


DUMPS: dict[Dump, Callable[[Path, Estimate], None]] = {
    "flo": dump_flo,
    "kitti": dump_kitti,
    "npz": dump_npz,
    "backward": dump_backward,
    "occlusion": dump_occlusion,
    "confidence": dump_confidence,
}
