"""Writes synthetic street videos, the same ones in the layouts of Cityscapes and ImageNet VID.

The same configuration always gives the same bytes. Training, validation and test share no photograph.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from deq_core.experiment.data import photographs
from deq_core.experiment.data.images import encode, one_thread, write_image
from deq_core.experiment.data.manifest import write_manifest
from deq_core.experiment.files import output_directory, write_text
from deq_vision.data.classes import STREET, STREET_OBJECTS
from deq_vision.data.mini.street import COUNTABLE, NAMES, Street, StreetConfig, random_street
from deq_vision.data.mini.street_view import View, render
from deq_vision.data.samples import Objects
from deq_vision.data.sets import cityscapes, imagenet_vid
from deq_vision.data.sets.annotations import write_annotation

SNIPPET, ANNOTATED = 30, 19  # frames of a Cityscapes snippet, and index of the annotated one
CITIES = {"train": "northtown", "val": "midtown", "test": "southtown"}
PHOTOGRAPHS = {
    "train": photographs.TRAINING,
    "val": photographs.VALIDATION,
    "test": photographs.TEST,
}
WORDNET = {name: wordnet for wordnet, name in STREET_OBJECTS.items()}
OBJECTS = {kind: tuple(STREET_OBJECTS.values()).index(NAMES[kind]) for kind in COUNTABLE}
"""Detection class of each segmentation class in `COUNTABLE`."""
VISIBLE_SHARE = 0.75  # an object with a smaller share of visible pixels counts as occluded


@dataclass(frozen=True, kw_only=True)
class MiniStreetConfig:
    """Settings of the street videos."""

    seed: int = 0
    height: int = 64
    width: int = 128
    train_streets: int = 400
    """Number of training streets, each with its annotated frame and, for detection, a few around it."""
    train_frames: int = 4
    """Number of consecutive frames of each training street, with the annotated one in the middle."""
    val_streets: int = 12
    """Number of validation videos, of 30 frames each."""
    test_streets: int = 24
    """Number of test videos, of 30 frames each."""
    least_pixels: int = 20
    """Minimum number of visible pixels of an object with a box."""
    street: StreetConfig = field(default_factory=StreetConfig)

    def __post_init__(self) -> None:
        least = {"seed": 0, "height": 32, "width": 32, "train_streets": 1, "val_streets": 1, "test_streets": 1}
        for name, bound in {**least, "least_pixels": 1, "train_frames": 1}.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(self, name)}")
        if self.train_frames > SNIPPET - ANNOTATED:
            raise ValueError(f"train_frames must be at most {SNIPPET - ANNOTATED}, got {self.train_frames}")

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), pixels."""
        return self.height, self.width

    def streets(self, split: str) -> int:
        """Number of streets in a split."""
        return {"train": self.train_streets, "val": self.val_streets, "test": self.test_streets}[split]

    def frames(self, split: str) -> range:
        """Frame numbers, within a snippet, of each street in a split."""
        if split != "train":
            return range(SNIPPET)
        first = ANNOTATED - self.train_frames // 2
        return range(first, first + self.train_frames)


def write_street(root: Path, config: MiniStreetConfig) -> None:
    """Writes cityscapes, ILSVRC and manifest.json to `root`.

    Unlike in the releases, every frame of the videos has labels, in cityscapes/gtFine_sequence, and the test split of
    VID has annotations. `root` appears, or is replaced, when everything is written. The manifest lists size and
    SHA-256 of every file.

    Raises:
        OutputError: `root` cannot be written.
    """
    total = sum(config.streets(split) * len(config.frames(split)) for split in CITIES)
    with (
        one_thread(),
        output_directory(root) as partial,
        tqdm(total=total, desc="videos of streets", unit="frame", disable=None) as progress,
    ):
        for kind, split in enumerate(CITIES):
            pictures = photographs.load_all(PHOTOGRAPHS[split])
            for index in range(config.streets(split)):
                rng = np.random.default_rng([config.seed, kind, index])
                street = random_street(rng, pictures, config.street)
                for number, view in views(street, config, split, rng):
                    write_cityscapes(partial, split, index, number, street, view)
                    objects = objects_in(view, street, config.least_pixels)
                    write_vid(partial, split, index, number - config.frames(split)[0], view, objects)
                    progress.update()
        write_lists(partial, config)
        write_manifest(partial, config)


def views(street: Street, config: MiniStreetConfig, split: str, rng: np.random.Generator) -> Iterator[tuple[int, View]]:
    """Renders the frames of a street, with their numbers within a snippet."""
    for number in config.frames(split):
        yield number, render(street, number - ANNOTATED, config.size, config.street.noise, rng)


def write_cityscapes(root: Path, split: str, index: int, number: int, street: Street, view: View) -> None:
    """Writes a frame as an annotated image, as part of a video, or both."""
    city = CITIES[split]
    stem = f"{city}_{index:06d}_{number:06d}"
    folder = root / cityscapes.FOLDER
    labels = STREET.label_ids(torch.from_numpy(view.labels)).numpy()
    if number == ANNOTATED:
        write_image(folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", picture(view))
        truth = folder / "gtFine" / split / city
        encode(truth / f"{stem}_gtFine_labelIds.png", labels)
        encode(truth / f"{stem}_gtFine_instanceIds.png", instance_ids(labels, view, street))
    if split != "train":
        write_image(folder / "leftImg8bit_sequence" / split / city / f"{stem}_leftImg8bit.png", picture(view))
        encode(folder / "gtFine_sequence" / split / city / f"{stem}_gtFine_labelIds.png", labels)


def instance_ids(labels: np.ndarray, view: View, street: Street) -> np.ndarray:
    """Instance ids of Cityscapes, uint16 (h, w): 1000 * label + number of the object in its class, else the label."""
    ids = labels.astype(np.uint16)
    for kind in COUNTABLE:
        numbers = [number for number, mover in enumerate(street.movers, start=1) if mover.kind == kind]
        for place, number in enumerate(numbers):
            ids[view.instances == number] = 1000 * STREET.ids[kind] + place
    return ids


def objects_in(view: View, street: Street, least_pixels: int) -> Objects:
    """Persons, cars and buses with at least `least_pixels` visible pixels, with the boxes around these pixels."""
    rows = []
    for number, unhidden in sorted(view.unhidden.items()):
        y, x = np.nonzero(view.instances == number)
        if len(x) >= least_pixels:
            box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
            kind = OBJECTS[street.movers[number - 1].kind]
            rows.append((box, kind, number - 1, bool(len(x) < VISIBLE_SHARE * unhidden)))
    return Objects.of(rows)


def write_vid(root: Path, split: str, index: int, number: int, view: View, objects: Objects) -> None:
    """Writes a frame and its annotation."""
    video = video_of(split, index)
    base = root / imagenet_vid.FOLDER
    encode(base / "Data" / "VID" / split / video / f"{number:06d}.JPEG", view.image[:, :, ::-1])
    path = base / "Annotations" / "VID" / split / video / f"{number:06d}.xml"
    names = {place: WORDNET[name] for place, name in enumerate(STREET_OBJECTS.values())}
    write_annotation(path, video, view.labels.shape, objects, names)


def write_lists(root: Path, config: MiniStreetConfig) -> None:
    """Writes ImageSets: training videos by class, and the frames of validation and test."""
    folder = root / imagenet_vid.FOLDER / "ImageSets" / "VID"
    videos = [video_of("train", index) for index in range(config.train_streets)]
    annotations = root / imagenet_vid.FOLDER / "Annotations" / "VID" / "train"
    for place, name in enumerate(STREET_OBJECTS.values(), start=1):
        shown = [video for video in videos if shows(annotations / video, WORDNET[name])]
        write_text(folder / f"train_{place}.txt", "".join(f"{video} 1\n" for video in shown))
    for split in ("val", "test"):
        frames = [
            f"{video_of(split, index)}/{number:06d}"
            for index in range(config.streets(split))
            for number in range(SNIPPET)
        ]
        write_text(folder / f"{split}.txt", "".join(f"{frame} {line}\n" for line, frame in enumerate(frames, start=1)))


def shows(video: Path, wordnet: str) -> bool:
    """Whether an annotation of a video has an object of a class."""
    return any(f"<name>{wordnet}</name>" in path.read_text() for path in sorted(video.iterdir()))


def video_of(split: str, index: int) -> str:
    """Name of a video as in VID; training videos are in folders of at most 1000."""
    if split == "train":
        return f"ILSVRC2015_VID_train_{index // 1000:04d}/ILSVRC2015_train_{index:08d}"
    return f"ILSVRC2015_{split}_{index:08d}"


def picture(view: View) -> Tensor:
    """The image of a view, uint8 RGB (3, h, w)."""
    return rearrange(torch.from_numpy(view.image), "h w c -> c h w")
