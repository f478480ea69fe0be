"""Annotated videos, and the playback of several at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from torch import Tensor

from deq_vision.data.samples import Objects
from deq_vision.data.sets.cityscapes import CityscapesVideos, Snippet
from deq_vision.data.sets.imagenet_vid import ImageNetVid
from deq_vision.detection.params import Detect
from deq_vision.detection.task import OBJECTS, fit
from deq_vision.params import Segment
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.tasks import LABELS

Known = TypeVar("Known")
Sides = tuple[int, int]


@dataclass(frozen=True)
class VideoFrame(Generic[Known]):
    """A frame of a video."""

    image: Tensor
    """uint8 RGB (3, h, w)."""
    known: Known | None
    """Labels (h, w), or objects in pixels of the original image; None if it is not annotated."""
    size: tuple[int, ...]
    """(h, w) of the original image, of which `image` may be a resized copy."""


class Video(Protocol[Known]):
    """A sequence of frames, some of them annotated."""

    @property
    def name(self) -> str: ...

    @property
    def annotated(self) -> int | None:
        """Index of the frame that the protocol measures; None for all annotated ones."""
        ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> VideoFrame[Known]:
        """Reads a frame."""
        ...


@dataclass(frozen=True)
class SegmentedVideo:
    """A snippet of Cityscapes. The release has labels for one frame only, the mini set's test split for each."""

    snippet: Snippet

    @property
    def name(self) -> str:
        return self.snippet.name

    @property
    def annotated(self) -> int | None:
        return self.snippet.annotated

    def __len__(self) -> int:
        return len(self.snippet)

    def frame(self, index: int) -> VideoFrame[Tensor]:
        known = self.snippet.segmented(index)
        image = self.snippet.image(index) if known is None else known.image
        return VideoFrame(image, None if known is None else known.labels, tuple(image.shape[1:]))


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video of ImageNet VID; every frame is annotated."""

    name: str
    images: ImageNetVid
    places: range
    """Indices of its frames in `images`."""
    sides: Sides | None
    """Longer and shorter side that frames are resized to fit within; see `detection.task.fit`."""
    annotated: Literal[None] = None

    def __len__(self) -> int:
        return len(self.places)

    def frame(self, index: int) -> VideoFrame[Objects]:
        sample = self.images[self.places[index]]
        return VideoFrame(fit(sample, self.sides).image, sample.objects, tuple(sample.image.shape[1:]))


def segmented_videos(task: Segment, config: StreamEvaluate, data: Path) -> list[SegmentedVideo]:
    """The snippets of a split.

    Raises:
        LayoutError: the set is missing or incomplete.
    """
    labels = LABELS[task.labels]
    snippets = CityscapesVideos(
        data / task.folder, config.split, before=config.before, after=config.after, labels=labels
    )
    return [SegmentedVideo(snippet) for snippet in snippets]


def annotated_videos(task: Detect, config: StreamEvaluate, data: Path) -> list[AnnotatedVideo]:
    """The videos of a split.

    Raises:
        LayoutError: the set is missing or incomplete.
    """
    images = ImageNetVid(data / task.folder, config.split, classes=OBJECTS[task.objects])
    return [AnnotatedVideo(name, images, places, task.test_sides) for name, places in images.sequences().items()]


@dataclass(frozen=True)
class Shown(Generic[Known]):
    """A frame in playback, with its position."""

    video: int
    """Index of its video."""
    index: int
    """Index of the frame within its video, from 0."""
    last: bool
    """Whether the video ends with this frame."""
    name: str
    """Name of the video, and number of the frame within it from 1."""
    frame: VideoFrame[Known]


def play(videos: Sequence[Video[Known]], streams: int) -> Iterator[list[Shown[Known]]]:
    """Plays up to `streams` videos at a time, frame by frame; when one ends, the next takes its place.

    The frames yielded together have one size.
    """
    waiting = iter([number for number, video in enumerate(videos) if len(video)])
    showing: dict[int, int] = {}  # video: its next frame
    while True:
        while len(showing) < streams and (number := next(waiting, None)) is not None:
            showing[number] = 0
        if not showing:
            return
        by_size: dict[tuple[int, ...], list[Shown[Known]]] = {}
        for number, index in list(showing.items()):
            last = index + 1 == len(videos[number])
            frame = videos[number].frame(index)
            name = f"{videos[number].name}, frame {index + 1}"
            by_size.setdefault(tuple(frame.image.shape), []).append(Shown(number, index, last, name, frame))
            showing[number] = index + 1
            if last:
                del showing[number]
        yield from by_size.values()
