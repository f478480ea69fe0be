"""Writes a video frame by frame; the file appears at its path once it is complete.

OpenCV does not report a full disk, so the written file is read back first.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch
from torch import Tensor

from deq_core.experiment.files import OutputError, output_file
from deq_core.experiment.media.video import FASTEST, SLOWEST, VideoError, named, size_of

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "FFV1"}
"""Codec of each container: MPEG-4 part 2 (plays nearly everywhere), motion JPEG, and FFV1 (lossless)."""

MPEG4 = 8191
"""Maximum side of an MPEG-4 video in pixels."""
DEFAULT_FPS = 25.0
TICKS = 2**16 - 1
"""Maximum number of MPEG-4 clock ticks per second; OpenCV uses a power of ten of ticks per frame."""


def write(path: Path, pictures: Iterable[Tensor], fps: float = DEFAULT_FPS) -> int:
    """Writes frames, each uint8 RGB (3, h, w), as a video and returns their number. See `writer`."""
    count = 0
    with writer(path, fps) as add:
        for picture in pictures:
            add(picture)
            count += 1
    return count


@contextmanager
def writer(path: Path, fps: float = DEFAULT_FPS) -> Iterator[Callable[[Tensor], None]]:
    """Yields a function that appends a frame, uint8 RGB (3, h, w), to a video; `path` is written at the block's end.

    An error in the block leaves `path` unchanged. A side of odd length is extended by repeating its last line, because
    codecs store colour for 2 x 2 pixels.

    Raises:
        VideoError: the suffix is unknown, the frame rate out of range, there is no frame, or sizes differ.
        OutputError: `path` cannot be written (the disk may be full), or frames are too large for the codec.
    """
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        raise VideoError(f"{path}: expected a name that ends in {', '.join(CODECS)}, got {path.suffix or 'no suffix'}")
    if not SLOWEST <= fps <= FASTEST:
        raise VideoError(f"{path}: expected from {SLOWEST} to {FASTEST:g} frames per second, got {fps}")
    named(path)
    with output_file(path) as partial:
        stream = Stream(path, partial, codec, fps)
        try:
            yield stream.add
        finally:
            stream.close()
        stream.check()


class Stream:
    """A video file being written."""

    def __init__(self, path: Path, partial: Path, codec: str, fps: float) -> None:
        self.path, self.partial, self.codec, self.fps = path, partial, codec, fps
        self.size: tuple[int, int] | None = None
        self.count = 0
        self.file = cv2.VideoWriter()

    def add(self, frame: Tensor) -> None:
        """Appends a frame, uint8 RGB (3, h, w)."""
        if frame.dtype != torch.uint8 or frame.ndim != 3 or frame.shape[0] != 3:
            raise VideoError(f"{self.path}: expected uint8 frames (3, h, w), got {frame.dtype} {tuple(frame.shape)}")
        height, width = frame.shape[1:]
        if self.size is None:
            self.size = (height, width)
            self.open(height + height % 2, width + width % 2)
        if self.size != (height, width):
            raise VideoError(
                f"{self.path}: expected frames of {self.size[1]}x{self.size[0]} pixels like the first, "
                f"got {size_of(frame)}"
            )
        pixels = frame.permute(1, 2, 0).cpu().numpy()[:, :, ::-1]
        self.file.write(cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))
        self.count += 1

    def open(self, height: int, width: int) -> None:
        """Opens the file for frames of this size."""
        if self.codec == "mp4v" and max(height, width) > MPEG4:
            raise OutputError(
                f"cannot write {self.path}: MPEG-4 has at most {MPEG4} pixels a side, got {width}x{height}; write "
                "another container (.avi, .mkv), or smaller frames"
            )
        fourcc = cv2.VideoWriter.fourcc(*self.codec)
        places = next(places for places in (3, 2, 1) if self.fps * 10**places <= TICKS)
        if not self.file.open(named(self.partial), fourcc, round(self.fps, places), (width, height)):
            raise OutputError(f"cannot write {self.path}: OpenCV has no {self.codec} encoder or may not write there")

    def close(self) -> None:
        """Closes the file."""
        self.file.release()

    def check(self) -> None:
        """Raises an error unless the file has every frame that was added."""
        if self.count == 0:
            raise VideoError(f"{self.path}: expected at least one frame, got none")
        if not ends_at(self.partial, self.count):
            raise OutputError(
                f"cannot write {self.path}: its {self.count} frames were not all stored; the disk may be full: "
                "free space there or choose another folder"
            )


def ends_at(path: Path, count: int) -> bool:
    """Whether the video at `path` has `count` frames and the last one can be decoded."""
    capture = cv2.VideoCapture(named(path))
    try:
        capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
        return capture.get(cv2.CAP_PROP_POS_FRAMES) == count - 1 and capture.read()[0]
    finally:
        capture.release()
