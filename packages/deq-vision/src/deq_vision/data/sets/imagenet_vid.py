"""ImageNet VID and DET (Russakovsky et al., IJCV 2015): objects in video frames, and in single images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.images import FileFormatError, damaged, read_image
from deq_core.experiment.data.layout import LayoutError, by_folder, files_in, require
from deq_core.experiment.data.published import IMAGES, DataSet, size_of
from deq_core.experiment.download.fetch import Source
from deq_core.experiment.reading import read_text
from deq_vision.data.classes import STREET_OBJECTS, VID
from deq_vision.data.samples import AnnotatedImage
from deq_vision.data.sets.annotations import Annotation, read_annotation

FOLDER = "ILSVRC"
HINT = (
    "unpack ILSVRC2015_VID.tar.gz, and for the images ILSVRC2015_DET.tar.gz, so that root/ILSVRC holds Data, "
    "Annotations and ImageSets; `deq-vision download vid` says where they are"
)


class ImageNetVid(Dataset[AnnotatedImage]):
    """The frames of `root`/ILSVRC/Data/VID/`split`, videos and frames in sorted order.

    The videos are those listed in ImageSets/VID: train_1.txt, train_2.txt and so on list training videos, one file for
    each class; val.txt and test.txt list frames. The release's test split has no annotations.

    Args:
        root: folder that holds ILSVRC.
        split: train (3862 videos), val (555) or, in the mini set, test.
        classes: {WordNet id: name}, in the order of their indices; objects of others are left out.
        frames_per_video: number of frames of each video, evenly spaced; None takes all.

    Raises:
        LayoutError: a list, folder, frame or annotation is missing.
        FileFormatError: the lists are empty.
        ValueError: `frames_per_video` is below 1.
    """

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test"] = "train",
        *,
        classes: Mapping[str, str] = VID,
        frames_per_video: int | None = None,
    ) -> None:
        if frames_per_video is not None and frames_per_video < 1:
            raise ValueError(f"frames_per_video must be at least 1, got {frames_per_video}")
        self.classes = tuple(classes.values())
        self.indices = {wordnet: index for index, wordnet in enumerate(classes)}
        self.folder = root / FOLDER / "Data" / "VID" / split
        self.annotations = root / FOLDER / "Annotations" / "VID" / split
        videos = listed_videos(root / FOLDER / "ImageSets" / "VID", split)
        self.images: list[Path] = []
        self.videos: dict[str, range] = {}
        for video in videos:
            frames = spread(files_in(self.folder / video, "*.JPEG", hint=HINT), frames_per_video)
            self.videos[video] = range(len(self.images), len(self.images) + len(frames))
            self.images.extend(frames)
        require([self.annotation_of(image) for image in self.images], because="annotations of the frames")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> AnnotatedImage:
        path = self.images[index]
        return annotated_image(path, self.annotation_of(path), self.indices, self.name(path))

    def annotation(self, index: int) -> Annotation:
        """The annotation of a frame, without reading the frame."""
        return read_annotation(self.annotation_of(self.images[index]), self.indices)

    def sequences(self) -> dict[str, range]:
        """Indices of each video's frames in temporal order."""
        return dict(self.videos)

    def name(self, image: Path) -> str:
        """video/frame."""
        return image.relative_to(self.folder).with_suffix("").as_posix()

    def annotation_of(self, image: Path) -> Path:
        return self.annotations / image.relative_to(self.folder).with_suffix(".xml")


class ImageNetDet(Dataset[AnnotatedImage]):
    """The images of ImageNet DET in a list, on which video detectors are trained besides VID's frames.

    Args:
        root: folder that holds ILSVRC.
        listing: file in ILSVRC/ImageSets whose lines begin with an image in Data/DET, without its suffix. The usual
            list, of the images with VID's classes, was published with FGFA (Zhu et al., ICCV 2017).
        classes: as for `ImageNetVid`.

    Raises:
        LayoutError: the list, an image or an annotation is missing.
        FileFormatError: the list is empty.
    """

    def __init__(
        self, root: Path, listing: str = "DET_train_30classes.txt", *, classes: Mapping[str, str] = VID
    ) -> None:
        self.classes = tuple(classes.values())
        self.indices = {wordnet: index for index, wordnet in enumerate(classes)}
        self.folder = root / FOLDER / "Data" / "DET"
        self.annotations = root / FOLDER / "Annotations" / "DET"
        names = first_words(root / FOLDER / "ImageSets" / listing)
        self.images = [self.folder / f"{name}.JPEG" for name in names]
        require(self.images, because=f"images of {listing}; {HINT}")
        require([self.annotation_of(image) for image in self.images], because=f"annotations of {listing}; {HINT}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> AnnotatedImage:
        path = self.images[index]
        name = path.relative_to(self.folder).with_suffix("").as_posix()
        return annotated_image(path, self.annotation_of(path), self.indices, name)

    def annotation_of(self, image: Path) -> Path:
        return self.annotations / image.relative_to(self.folder).with_suffix(".xml")


def annotated_image(image: Path, annotation: Path, indices: Mapping[str, int], name: str) -> AnnotatedImage:
    """Reads an image with its annotation.

    Raises:
        FileFormatError: a file is damaged, or the annotation is for an image of another size.
    """
    pixels, known = read_image(image), read_annotation(annotation, indices)
    require_size_of(annotation, known, pixels.shape[1:])
    return AnnotatedImage(pixels, known.objects, name)


def require_size_of(annotation: Path, known: Annotation, size: Sequence[int]) -> None:
    """Raises FileFormatError unless an annotation is for an image of this height and width, as stored."""
    if tuple(size) != known.size:
        (height, width), (h, w) = size, known.size
        raise damaged(annotation, f"the size of its image, {width}x{height}", f"{w}x{h}")


def frame_of(annotation: Path) -> Path:
    """The image of an annotation in ILSVRC/Annotations."""
    (top,) = (folder for folder in annotation.parents if folder.parts[-2:] == (FOLDER, "Annotations"))
    return (top.with_name("Data") / annotation.relative_to(top)).with_suffix(".JPEG")


def listed_videos(folder: Path, split: str) -> list[str]:
    """The distinct videos in the lists of a split, sorted.

    Raises:
        LayoutError: there is no list.
        FileFormatError: the lists are empty.
    """
    if split == "train":
        lists = files_in(folder, "train_*.txt", hint=HINT)
        videos = sorted({name for path in lists for name in first_words(path, may_be_empty=True)})
        if not videos:
            raise damaged(lists[0], "a list of videos, here or in its neighbours", "empty files")
        return videos
    frames = [Path(name) for name in first_words(folder / f"{split}.txt")]
    return sorted(video.as_posix() for video in by_folder(frames))


def first_words(path: Path, *, may_be_empty: bool = False) -> list[str]:
    """The first word of each line.

    Raises:
        LayoutError: the file does not exist.
        FileFormatError: the file is empty, unless it `may_be_empty`.
    """
    if not path.is_file():
        raise LayoutError(f"{path}: expected a list, but there is none; {HINT}", [path])
    words = [line.split()[0] for line in read_text(path, FileFormatError).splitlines() if line.strip()]
    if not words and not may_be_empty:
        raise damaged(path, "a list", "an empty file")
    return words


def spread(frames: Sequence[Path], count: int | None) -> Sequence[Path]:
    """At most `count` of the frames, evenly spaced from the first on; all if None."""
    if count is None or count >= len(frames):
        return frames
    return [frames[place * len(frames) // count] for place in range(count)]


EVERY_OBJECT = dict.fromkeys((*VID, *STREET_OBJECTS), 0)


def whole_annotation(path: Path, *, decoded: bool) -> None:
    """Checks that an annotation has the size of its frame, whatever `decoded` is.

    Raises:
        FileFormatError: the file is damaged, or its size is not that of the frame.
    """
    known = read_annotation(path, EVERY_OBJECT)
    size = size_of(frame_of(path))
    if size is not None:
        require_size_of(path, known, size)


SETS: Mapping[str, DataSet] = {
    "vid": DataSet(
        source=Source(
            title="ImageNet VID, ILSVRC 2015",
            page="https://image-net.org/challenges/LSVRC/2015/",
            licence="For non-commercial research and education; you must accept the terms. Cite Russakovsky et al., "
            "IJCV 2015. 86 GB packed.",
            manual="log in and download ILSVRC2015_VID.tar.gz; unpack it, and name its folder ILSVRC, so that "
            "ILSVRC/Data/VID lies in the folder of the data.",
        ),
        folder=FOLDER,
        places=("Data/VID", "Annotations/VID"),
        parts=(
            Part("Data/VID/train", ImageNetVid, 1_122_397),
            Part("Data/VID/val", lambda root: ImageNetVid(root, "val"), 176_126),
        ),
        whole={**IMAGES, ".xml": whole_annotation},
    ),
    "det": DataSet(
        source=Source(
            title="ImageNet DET, ILSVRC 2015: the images with classes of VID",
            page="https://image-net.org/challenges/LSVRC/2015/",
            licence="For non-commercial research and education; you must accept the terms. Cite Russakovsky et al., "
            "IJCV 2015. 50 GB packed.",
            manual="log in and download ILSVRC2015_DET.tar.gz; unpack it, and name its folder ILSVRC, beside VID's. "
            "The list of the images, DET_train_30classes.txt, is published with FGFA (Zhu et al., ICCV 2017) and with "
            "the detectors that followed it; put it into ILSVRC/ImageSets.",
        ),
        folder=FOLDER,
        places=("Data/DET", "Annotations/DET"),
        parts=(Part("Data/DET", ImageNetDet),),
        whole={**IMAGES, ".xml": whole_annotation},
    ),
}
