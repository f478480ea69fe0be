"""Frames in and frames out, one at a time: a video of any length takes the memory of one frame.

Frames are uint8 RGB tensors (3, h, w). What OpenCV calls a success is checked here: it reports neither a full disk nor
a file that it cannot decode. Where the size of frames changes within a video file, it scales them to the size of the
first and says so nowhere.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.data.images import quiet, read_image
from deq_core.experiment.errors import FileFormatError
from deq_core.experiment.files import OutputError, output_file
from deq_core.experiment.reading import told

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of a folder's files that are frames."""

UNREAD = (".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jxl")
"""Suffixes of pictures that are not read."""

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "FFV1"}
"""Codec of each container that can be written: MPEG-4 part 2, which plays nearly everywhere; JPEG; and lossless."""

MPEG4 = 8191
"""Pixels a side that a video of that codec has at most."""
DEFAULT_FPS = 25.0
SLOWEST, FASTEST = 0.002, 1000.0
"""Frames per second that a video can be written with."""
TICKS = 2**16 - 1
"""Of the clock of MPEG-4, at most, in a second; OpenCV makes a power of ten of them a frame."""

Source = int | Path | Sequence[Path]
"""A camera, a video file or a folder of frames, or the frames themselves in order."""


class VideoError(FileFormatError):
    """Frames that cannot be read or written; the message names the source."""


@dataclass(frozen=True)
class Frames:
    """The frames of a source, in order, of one size. Every iteration reads them anew and holds one of them."""

    name: str
    fps: float | None
    """Frames per second; None where the source does not say, or says what no video can be written with."""
    count: int | None
    """Frames announced; None where nobody knows. A damaged video has fewer, and some containers only estimate."""
    read: Callable[[], Iterator[Tensor]]

    def __iter__(self) -> Iterator[Tensor]:
        """Uint8 RGB (3, h, w) each.

        Raises:
            VideoError: a frame has another size than the first.
        """
        first = ""
        for number, frame in enumerate(self.read(), start=1):
            first = first or size_of(frame)
            if size_of(frame) != first:
                raise VideoError(
                    f"{self.name}: frame {number} has {size_of(frame)} pixels and the first {first}; "
                    "resize them to one size, or process them apart"
                )
            yield frame


def frames(source: Source) -> Frames:
    """The frames of a camera (its index), a video file, a folder of images in natural order, or a list of images.

    Raises:
        VideoError: there is no such source, it cannot be read, or it holds no frame.
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
    """Several inputs, which must all be images."""
    for path in paths:
        image = path.suffix.lower() in IMAGES or cv2.haveImageReader(named(path))
        if path.is_dir() or (path.is_file() and not image):
            what = "a folder" if path.is_dir() else "no image"
            raise VideoError(f"{path}: {what}; several inputs must all be images, a video or a folder is given alone")
    return tuple(paths)


def of_images(paths: tuple[Path, ...], name: str) -> Frames:
    """Image files as frames, each turned to how a person sees it."""
    if not paths:
        raise VideoError(f"{name}: expected images ({', '.join(IMAGES)}), got none")
    for path in paths:
        if not path.is_file():
            raise VideoError(f"{path}: no such file")
    return Frames(name, None, len(paths), lambda: (read_image(path, upright=True) for path in paths))


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of a folder, sorted by name with numbers as numbers; hidden files are left out.

    Pictures of other kinds are left out too, which is said on stderr.

    Raises:
        VideoError: one is a link that leads nowhere.
    """
    seen = sorted((path for path in folder.iterdir() if path.name[0] != "."), key=natural)
    found = [path for path in seen if path.suffix.lower() in IMAGES]
    if others := [path.name for path in seen if path.suffix.lower() in UNREAD]:
        print(
            f"{folder}: left out are {len(others)} pictures of kinds that are not read, such as {others[0]}; convert "
            f"them (to {', '.join(IMAGES)})",
            file=sys.stderr,
        )
    if lost := [path for path in found if not path.exists()]:
        raise VideoError(
            f"{lost[0]}: a link that leads nowhere ({len(lost)} of {len(found)} images); mend or remove it"
        )
    return tuple(path for path in found if path.is_file())


def apart(images: tuple[Path, ...]) -> tuple[Path, ...]:
    """The frames of a folder; raises VideoError where two differ in suffix alone, of which each would be a frame."""
    for first, second in pairwise(images):
        if first.stem == second.stem:
            raise VideoError(f"{first} and {second.name}: two images of one name, so one frame twice; remove one")
    return images


def natural(path: Path) -> tuple[list[str | int], str]:
    """A key that sorts frame_9 before frame_10: texts and numbers of the name in turn, then the name itself."""
    parts = re.split(r"(\d+)", path.stem)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def announced(source: int | Path) -> tuple[float | None, int | None]:
    """Frames per second and number of frames that a video says it has, None where it does not."""
    capture = opened(source)
    fps, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return (fps if SLOWEST <= fps < FASTEST else None), (count if count > 0 else None)


def captured(source: int | Path) -> Iterator[Tensor]:
    """The frames of a video file or a camera, which is let go however the iteration ends."""
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
    """Whether there was a next frame, and its pixels.

    Raises:
        VideoError: OpenCV takes the source for damaged.
    """
    try:
        with quiet():
            return capture.read()
    except cv2.error as error:
        raise VideoError(f"{described(source)}: damaged, as OpenCV says: {told(error)}; copy it again") from error


def tell_of_fewer(name: str, announced: int | None, found: int) -> None:
    """Says on stderr that a source ended before the frames that were asked for and that it announced."""
    if announced is not None and found < announced:
        print(
            f"{name}: expected {announced} frames, of which {found} could be decoded: it may be damaged; copy it again",
            file=sys.stderr,
        )


def opened(source: int | Path) -> cv2.VideoCapture:
    """OpenCV's reader of a video file or a camera."""
    with quiet():
        try:
            capture = cv2.VideoCapture(source if isinstance(source, int) else named(source))
        except cv2.error:  # an index that is beyond all numbers it takes
            capture = cv2.VideoCapture()
    if not capture.isOpened():
        capture.release()
        remedy = "connect it, or choose another index"
        if not isinstance(source, int):
            remedy = "copy it again if it may be damaged, or convert it to .mp4 or to images"
        raise VideoError(f"{described(source)}: OpenCV cannot open it as a video; {remedy}")
    return capture


def named(path: Path) -> str:
    """The file as OpenCV takes it: of a relative path it would read what is before a colon as a protocol, like http.

    Raises:
        VideoError: the name has bytes that are no UTF-8, at which OpenCV crashes.
    """
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        raise VideoError(f"{name}: expected a path in UTF-8, got {os.fsencode(name)!r}; rename it") from None
    return name


def described(source: int | Path) -> str:
    """The source as messages name it."""
    return f"camera {source}" if isinstance(source, int) else str(source)


def write(path: Path, pictures: Iterable[Tensor], fps: float = DEFAULT_FPS) -> int:
    """Writes a video of the frames, uint8 RGB (3, h, w) each, and returns how many there were. See `writer`."""
    count = 0
    with writer(path, fps) as add:
        for picture in pictures:
            add(picture)
            count += 1
    return count


@contextmanager
def writer(path: Path, fps: float = DEFAULT_FPS) -> Iterator[Callable[[Tensor], None]]:
    """A function that adds a frame, uint8 RGB (3, h, w), to a video that appears at `path` when the block is left.

    After an error in the block `path` is as it was before. A side of odd length is extended by its last line, because
    codecs store colour for two by two pixels.

    Raises:
        VideoError: an unknown suffix, frames per second out of range, no frame, or frames of different sizes.
        OutputError: `path` cannot be written, the disk may be full; or frames are larger than its codec takes.
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
        """Begins the file."""
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
        """Ends the file."""
        self.file.release()

    def check(self) -> None:
        """Raises unless the file holds every frame that was added."""
        if self.count == 0:
            raise VideoError(f"{self.path}: expected at least one frame, got none")
        if not ends_at(self.partial, self.count):
            raise OutputError(
                f"cannot write {self.path}: its {self.count} frames were not all stored; the disk may be full: "
                "free space there or choose another folder"
            )


def ends_at(path: Path, count: int) -> bool:
    """Whether the video at `path` has `count` frames, of which the last can be decoded."""
    capture = cv2.VideoCapture(named(path))
    try:
        capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
        return capture.get(cv2.CAP_PROP_POS_FRAMES) == count - 1 and capture.read()[0]
    finally:
        capture.release()


def size_of(frame: Tensor) -> str:
    """Width and height as messages say them."""
    return f"{frame.shape[2]}x{frame.shape[1]}"
