"""Reads frames of videos, cameras and folders one at a time, in the memory of one frame.

Frames are uint8 RGB tensors (3, h, w). OpenCV does not report a file that it cannot decode, which is checked here. If
the size of frames changes within a video file, OpenCV silently scales them to the size of the first.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.data.images import quiet, read_image
from deq_core.experiment.errors import FileFormatError
from deq_core.experiment.media.image_folder import IMAGES, apart, image_files
from deq_core.experiment.reading import told

SLOWEST, FASTEST = 0.002, 1000.0
"""Minimum and maximum frame rate of written videos."""

Source = int | Path | Sequence[Path]
"""Index of a camera, a video file or folder of frames, or the image files of the frames in order."""


class VideoError(FileFormatError):
    """Frames cannot be read or written; the message names the source."""


@dataclass(frozen=True)
class Frames:
    """The frames of a source, in order, all of one size. Each iteration reads the source anew, one frame at a time."""

    name: str
    fps: float | None
    """Frames per second; None if the source does not say, or if no video can be written at this rate."""
    count: int | None
    """Announced number of frames, None if unknown. A damaged video has fewer; some containers only estimate it."""
    read: Callable[[], Iterator[Tensor]]
    files: Sequence[Path] = ()
    """File of each frame, if the frames are images."""

    def __iter__(self) -> Iterator[Tensor]:
        """Frames, each uint8 RGB (3, h, w).

        Raises:
            VideoError: a frame differs in size from the first.
        """
        first = ""
        for number, frame in enumerate(self.read(), start=1):
            first = first or size_of(frame)
            if size_of(frame) != first:
                file = f" ({self.files[number - 1].name})" if self.files else ""
                raise VideoError(
                    f"{self.name}: frame {number}{file} has {size_of(frame)} pixels and the first {first}; "
                    "resize them to one size, or process them apart"
                )
            yield frame


def source_of(names: Sequence[str]) -> Source:
    """The source named on a command line: a file, a folder, the index of a camera, or two or more images."""
    if len(names) > 1:
        return [Path(name) for name in names]
    (name,) = names
    return int(name) if name.isdecimal() and not Path(name).exists() else Path(name)


def frames(source: Source) -> Frames:
    """The frames of a camera (its index), a video file, a folder of images in natural order, or a list of images.

    Raises:
        VideoError: the source does not exist, cannot be read, or has no frames.
        FileFormatError: two images of a folder differ only in suffix, or an image is a broken link.
    """
    if isinstance(source, int):
        fps, _ = announced(source)
        return Frames(f"camera {source}", fps, None, lambda: captured(source))
    if not isinstance(source, Path):
        return of_images(listed(source), ", ".join(str(path) for path in source))
    if source.is_dir():
        return of_images(apart(image_files(source)), str(source))
    if not source.exists():
        raise VideoError(f"{source}: no such file or folder")
    if source.is_fifo() or source.is_socket():
        raise VideoError(f"{source}: expected a file or folder, got a pipe, which is read once; write a file first")
    if source.suffix.lower() in IMAGES:
        return of_images((source,), str(source))
    fps, count = announced(source)
    return Frames(str(source), fps, count, lambda: captured(source))


def listed(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Several inputs, once checked to be images.

    Raises:
        VideoError: an input is a folder or not an image.
    """
    for path in paths:
        image = path.suffix.lower() in IMAGES or cv2.haveImageReader(named(path))
        if path.is_dir() or (path.is_file() and not image):
            what = "a folder" if path.is_dir() else "no image"
            raise VideoError(f"{path}: {what}; several inputs must all be images, a video or a folder is given alone")
    return tuple(paths)


def of_images(paths: tuple[Path, ...], name: str) -> Frames:
    """Image files as frames, rotated upright."""
    if not paths:
        raise VideoError(f"{name}: expected images ({', '.join(IMAGES)}), got none")
    for path in paths:
        if not path.is_file():
            raise VideoError(f"{path}: no such file")
    return Frames(name, None, len(paths), lambda: (read_image(path, upright=True) for path in paths), paths)


def announced(source: int | Path) -> tuple[float | None, int | None]:
    """Frame rate and number of frames that a video announces, None for what it does not."""
    capture = opened(source)
    fps, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return (fps if SLOWEST <= fps < FASTEST else None), (count if count > 0 else None)


def captured(source: int | Path) -> Iterator[Tensor]:
    """The frames of a video file or camera; the source is released however the iteration ends."""
    capture = opened(source)
    try:
        found, pixels = read(capture, source)
        if not found:
            raise VideoError(f"{described(source)}: not one frame could be decoded; convert it, or save it again")
        while found:
            yield torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)))
            found, pixels = read(capture, source)
    finally:
        capture.release()


def read(capture: cv2.VideoCapture, source: int | Path) -> tuple[bool, Any]:
    """Whether there is a next frame, and its pixels.

    Raises:
        VideoError: OpenCV reports damage.
    """
    try:
        with quiet():
            return capture.read()
    except cv2.error as error:
        raise VideoError(f"{described(source)}: damaged, as OpenCV says: {told(error)}; copy it again") from error


def tell_of_fewer(name: str, announced: int | None, found: int) -> None:
    """Warns on stderr if a source had fewer frames than `announced`."""
    if announced is not None and found < announced:
        print(
            f"{name}: expected {announced} frames, of which {found} could be decoded: it may be damaged; copy it again",
            file=sys.stderr,
        )


def opened(source: int | Path) -> cv2.VideoCapture:
    """OpenCV's reader of a video file or camera.

    Raises:
        VideoError: OpenCV cannot open the source.
    """
    with quiet():
        try:
            capture = cv2.VideoCapture(source if isinstance(source, int) else named(source))
        except cv2.error:  # the index is out of its range
            capture = cv2.VideoCapture()
    if not capture.isOpened():
        capture.release()
        remedy = "connect it, or choose another index"
        if not isinstance(source, int):
            remedy = "copy it again if it may be damaged, or convert it to .mp4 or to images"
        raise VideoError(f"{described(source)}: OpenCV cannot open it as a video; {remedy}")
    return capture


def named(path: Path) -> str:
    """The absolute path for OpenCV, which takes the part of a relative path before a colon for a protocol.

    Raises:
        VideoError: the path is not valid UTF-8, which crashes OpenCV.
    """
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        raise VideoError(f"{name}: expected a path in UTF-8, got {os.fsencode(name)!r}; rename it") from None
    return name


def described(source: int | Path) -> str:
    """The source's name in messages."""
    return f"camera {source}" if isinstance(source, int) else str(source)


def size_of(frame: Tensor) -> str:
    """Width and height of a frame for messages, such as 640x480."""
    return f"{frame.shape[2]}x{frame.shape[1]}"
