"""A few small samples of each published set that the profile paper reads, in the layouts that the readers expect.

Images and motion are from the generated sets, except the flow of Spring and the images of ImageNet. The training text
has the size of the published vocabulary, by which the softmax of language models is divided.
"""

import shutil
from pathlib import Path

import h5py
import numpy as np

from deq_core.experiment.data.images import encode
from deq_core.experiment.files import write_text
from deq_flow.data.mini.training import TrainingSetsConfig
from deq_flow.data.mini.videos import VideosConfig
from deq_flow.data.mini.write import MiniConfig
from deq_flow.data.mini.write import write_mini as write_flow
from deq_sequence.config import WT103
from deq_sequence.data.corpora import SPLITS
from deq_vision.data.mini.write import MiniSets
from deq_vision.data.mini.write import write_mini as write_vision
from deq_vision.data.mini.write_digits import MiniDigitsConfig
from deq_vision.data.mini.write_street import MiniStreetConfig

CLASSES = 2
"""Number of classes of ImageNet; each is a folder with one image in each split."""
SIZE = 64, 72
"""(h, w) of images and frames, pixels; trainings enlarge them to their crops. Flow needs at least 64."""
TOKENS = 17
"""Number of tokens in the validation and test texts."""


def write(root: Path) -> None:
    """Writes all sets into the folder `root`, as `download` does with the published ones."""
    write_pairs(root)
    write_pictures(root)
    write_words(root / "wikitext-103")


def write_pairs(root: Path) -> None:
    """Writes FlyingChairs, FlyingThings3D, Sintel, KITTI, HD1K and Spring."""
    height, width = SIZE
    video = VideosConfig(videos=1, frames=2)
    sets = MiniConfig(
        height=height,
        width=width,
        train_pairs=1,
        val_pairs=1,
        scenes=1,
        frames=3,
        kitti_pairs=1,
        training=TrainingSetsConfig(things_scenes=1, sintel_scenes=1, frames=2, kitti_pairs=1, hd1k_sequences=1),
        videos=video,
        validation_videos=video,
    )
    generated = root / "generated"
    write_flow(generated, sets)
    for name in ("FlyingChairs_release", "chairs_split.txt", "Sintel", "KITTI"):
        (generated / name).rename(root / name)
    for name in ("FlyingThings3D", "HD1k"):
        (generated / "Training" / name).rename(root / name)
    shutil.rmtree(generated)
    scene = root / "spring" / "train" / "0001"
    for number, frame in enumerate(sorted((root / "Sintel/training/clean").glob("*/*.png")), start=1):
        (scene / "frame_left").mkdir(parents=True, exist_ok=True)
        (scene / "flow_FW_left").mkdir(exist_ok=True)
        shutil.copy(frame, scene / "frame_left" / f"frame_left_{number:04d}.png")
        with h5py.File(scene / "flow_FW_left" / f"flow_FW_left_{number:04d}.flo5", "w") as file:
            file["flow"] = np.ones((2 * height, 2 * width, 2), np.float32)


def write_pictures(root: Path) -> None:
    """Writes CIFAR-10, ImageNet, and Cityscapes with its videos."""
    height, width = SIZE
    generated = root / "generated"
    street = MiniStreetConfig(height=height, width=width, train_streets=1, val_streets=1, test_streets=1)
    write_vision(generated, MiniSets(digits=MiniDigitsConfig(train=5, val=1, test=2), street=street))
    for place in ("digits/cifar-10-batches-bin", "street/cityscapes"):
        (generated / place).rename(root / Path(place).name)
    shutil.rmtree(generated)
    (root / "cifar-10-batches-bin/val_batch.bin").unlink()  # the release has none
    shutil.rmtree(root / "cityscapes/gtFine_sequence")
    for labels in (root / "cityscapes/gtFine/test").glob("*/*_gtFine_labelIds.png"):
        encode(labels, np.zeros(SIZE, np.uint8))  # labels of the test split are not published
    pixels = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(CLASSES):
            name = f"n{label:08d}"
            picture = pixels.integers(0, 256, (height, width, 3), dtype=np.uint8)
            encode(root / "imagenet" / split / name / f"{name}_0.JPEG", picture)


def write_words(folder: Path) -> None:
    """Writes texts for training, validation and test; the first has as many words as the published vocabulary."""
    for split, count in zip(SPLITS, (WT103.vocabulary, TOKENS, TOKENS), strict=True):
        words = [f"word{number}" for number in range(count - 1)]  # the end of a line is a token too
        write_text(folder / f"wiki.{split}.tokens", " " + " ".join(words) + " \n")
