"""Outputs of the demo: videos, or pictures of a single pair, and files of flow."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
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
"""An output of the demo: a view of the flow, or a kind of file."""

TWO_WAYS: frozenset[Product] = frozenset(("backward", "occlusion", "confidence"))
"""Products that need the backward flow too."""

Add = Callable[[Estimate], None]


@contextmanager
def outputs(
    folder: Path, products: Sequence[Product], *, fps: float, container: str, single: bool, max_speed: float | None
) -> Iterator[Add]:
    """A context with a function that adds an estimate to all products; the files are complete at its end.

    Args:
        folder: folder for a video of each view, such as colour.mp4, or with `single` a .png, and for a folder of each
            kind of file, such as flo, with files numbered from 000000.
        products: products to write.
        fps: frame rate of the videos.
        container: suffix of the videos; see `video_file.CODECS`.
        single: whether there is only one estimate.
        max_speed: speed of full colour, pixels; None follows the video. A flow with a warning then does not affect the
            scale of later flows.
    """
    with ExitStack() as stack:
        views = [view for view in get_args(View) if view in products]
        dumps = [kind for kind in get_args(Dump) if kind in products]
        shows: dict[View, Callable[[Tensor], None]] = {
            view: partial(write_image, folder / f"{view}.png")
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
            colours = cache(lambda: flow_to_rgb(estimate.flow, speed))  # once for all views
            for view, show in shows.items():
                show(picture(view, estimate, colours))
            for kind in dumps:
                dump(kind, folder / kind / f"{count:06d}", estimate)
            count += 1

        yield add


def dump(kind: Dump, place: Path, estimate: Estimate) -> None:
    """Writes a file of an estimate; `place` is its path without suffix.

    flo         the flow in Middlebury's format: exact, with its mark of unknown motion where the flow is not finite
    kitti       KITTI's 16-bit PNG, rounded to 1/64 pixel; flow that is not finite or too fast for it is not valid
    npz         a compressed archive of `flow`, float32 (2, h, w)
    backward    the flow from the second frame to the first in Middlebury's format
    occlusion   a grey PNG, 255 at pixels of the first frame that are not visible in the second
    confidence  a grey PNG, 255 where forward and backward flow agree, and lower the more they differ
    """
    flow = estimate.flow
    match kind:
        case "flo":
            write_flo(place.with_suffix(".flo"), marked_unknown(flow))
        case "kitti":
            low, high = KITTI_RANGE
            write_kitti(place.with_suffix(".png"), flow, ((flow >= low) & (flow <= high)).all(dim=0))
        case "npz":
            buffer = io.BytesIO()
            np.savez_compressed(buffer, flow=flow.numpy())
            write_bytes(place.with_suffix(".npz"), buffer.getvalue())
        case "backward":
            write_flo(place.with_suffix(".flo"), marked_unknown(backward_of(estimate)))
        case "occlusion":
            write_mask(place.with_suffix(".png"), occlusion(flow, backward_of(estimate)))
        case "confidence":
            level = 255 * confidence(flow, backward_of(estimate))
            encode(place.with_suffix(".png"), level.round().to(torch.uint8).numpy())


def marked_unknown(flow: Tensor) -> Tensor:
    """The flow (2, h, w) with Middlebury's mark of unknown motion where it is not finite."""
    return torch.where(flow.isfinite().all(dim=0), flow, 10 * UNKNOWN)


def backward_of(estimate: Estimate) -> Tensor:
    """The flow from the second frame to the first, (2, h, w)."""
    if estimate.backward is None:
        raise ValueError("expected an estimate with its backward flow; call follow(..., backward=True)")
    return estimate.backward.flow
