"""Where estimates go: videos of them, or pictures of a single one, and files of flow."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from deq_core.experiment.data.images import write_image
from deq_core.experiment.files import write_bytes
from deq_core.experiment.media import video
from deq_flow.data.io import KITTI_RANGE, write_flo, write_kitti
from deq_flow.demo.follow import Estimate
from deq_flow.demo.pictures import Scale, View, picture

Dump = Literal["flo", "kitti", "npz"]
Product = View | Dump
"""What is kept of a video: views of its flow, and files of it."""

Add = Callable[[Estimate], None]


@contextmanager
def outputs(
    folder: Path, products: Sequence[Product], *, fps: float, container: str, single: bool, max_speed: float | None
) -> Iterator[Add]:
    """A function that adds an estimate to every product; the files are whole when the block is left.

    Args:
        folder: for colour.mp4, side-by-side.mp4 and arrows.mp4, or .png where there is a single estimate, and the
            folders flo, kitti and npz of files numbered from 000000.
        products: which of them.
        fps: of the videos.
        container: suffix of the videos; see `video.CODECS`.
        single: whether there will be one estimate only.
        max_speed: speed of full colour, pixels; None follows the video.
    """
    with ExitStack() as stack:
        views = [view for view in get_args(View) if view in products]
        dumps = [dump for dump in get_args(Dump) if dump in products]
        shows: dict[View, Callable[[Tensor], None]] = {
            view: write_to(folder / f"{view}.png")
            if single
            else stack.enter_context(video.writer(folder / f"{view}{container}", fps))
            for view in views
        }
        scale, count = Scale(), 0

        def add(estimate: Estimate) -> None:
            nonlocal scale, count
            scale = scale.after(estimate.flow)
            for view, show in shows.items():
                show(picture(view, estimate, scale.speed if max_speed is None else max_speed))
            for dump in dumps:
                DUMPS[dump](folder / dump / f"{count:06d}", estimate.flow)
            count += 1

        yield add


def write_to(path: Path) -> Callable[[Tensor], None]:
    """A function that writes an image to `path`."""
    return lambda image: write_image(path, image)


def dump_flo(place: Path, flow: Tensor) -> None:
    """Middlebury's format: exact."""
    write_flo(place.with_suffix(".flo"), flow)


def dump_kitti(place: Path, flow: Tensor) -> None:
    """KITTI's 16-bit PNG: to 1/64 pixel; what moves too far for the format is not valid."""
    low, high = KITTI_RANGE
    write_kitti(place.with_suffix(".png"), flow, ((flow >= low) & (flow <= high)).all(dim=0))


def dump_npz(place: Path, flow: Tensor) -> None:
    """A compressed archive of `flow`, float32 (2, h, w)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, flow=flow.numpy())
    write_bytes(place.with_suffix(".npz"), buffer.getvalue())


DUMPS: dict[Dump, Callable[[Path, Tensor], None]] = {"flo": dump_flo, "kitti": dump_kitti, "npz": dump_npz}
