"""Readers of `deq_vision`."""

import json
from pathlib import Path

import numpy as np
import torch
from tests.fuzz.core import content, encoded
from tests.fuzz.reader import Reader, digested, like, same

import deq_core as deq
import deq_vision
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.errors import LayoutError
from deq_vision import MDEQ, Segmentation
from deq_vision.data.classes import CITYSCAPES
from deq_vision.data.samples import Objects
from deq_vision.data.sets import annotations, cifar, cityscapes, imagenet_vid
from deq_vision.data.sets.cityscapes import whole_file
from deq_vision.data.sets.own.coco import read_coco
from deq_vision.data.sets.own.labels import Label, LabelFile, labels_of
from deq_vision.demo import label_space
from deq_vision.models.build import save

NAMES = {"n02958343": 0, "n02924116": 1}
LABELS = np.random.default_rng(0).integers(0, 34, (12, 16)).astype(np.uint8)
MASKS = LabelFile(classes=(Label(name="a", index=0), Label(name="b", index=1)))
LABEL_LIST = "classes: [{name: a, index: 0}, {name: b, index: 1, colour: [1, 2, 3]}]\nignore: [255]\n"
BOXES = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 12}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2.5, 3, 4]}],
        "categories": [{"id": 3, "name": "leaf"}],
    }
)


def write_annotation(folder: Path) -> Path:
    objects = Objects.of([((1, 2, 9, 8), 0, 4, False), ((3, 3, 5, 7), 1, 5, True)])
    names = {index: name for name, index in NAMES.items()}
    annotations.write_annotation(folder / "000000.xml", "video", (12, 16), objects, names)
    return folder / "000000.xml"


def write_records(folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=generator, dtype=torch.uint8)
    cifar.write_records(folder / "data_batch_1.bin", images, torch.tensor([0, 9, 4]))
    return folder / "data_batch_1.bin"


def write_labels(folder: Path) -> Path:
    stored = encoded(".png", LABELS)(folder)
    return stored.rename(folder / "aachen_000000_000019_gtFine_labelIds.png")


def network() -> MDEQ:
    torch.manual_seed(0)
    return deq_vision.build(
        "mini-street", head=Segmentation(classes=3), channels=(8, 8), expansion=2, solver=deq.Anderson()
    )


def write_ours(folder: Path) -> Path:
    save(folder / "model.safetensors", network())
    return folder / "model.safetensors"


def write_released(folder: Path) -> Path:
    torch.manual_seed(0)
    model = deq_vision.build("cifar-tiny")
    torch.save(model.state_dict(), folder / "official.pth")
    return folder / "official.pth"


FORMAT = (FileFormatError,)
LOADING = (CheckpointError, ConfigError)
READERS = (
    Reader("vision/boxes.xml", write_annotation, lambda path: annotations.read_annotation(path, NAMES), FORMAT, like),
    Reader("vision/records.bin", write_records, cifar.read_records, FORMAT, like),
    Reader(
        "vision/batches.meta.txt",
        content("batches.meta.txt", "\n".join(f"class {number}" for number in range(10))),
        cifar.read_names,
        (FileFormatError, LayoutError),
    ),
    Reader(
        "vision/names.txt",
        content("names.txt", "a\nb\nc\n"),
        lambda path: label_space.read_names(path, 3),
        (ConfigError,),
    ),
    Reader(
        "vision/list.txt",
        content("val.txt", "video/000000 1\nvideo/000001 2\n"),
        imagenet_vid.first_words,
        (FileFormatError, LayoutError),
    ),
    Reader(
        "vision/labels.png",
        write_labels,
        lambda path: cityscapes.read_labels(path, torch.zeros(3, 12, 16), CITYSCAPES),
        FORMAT,
        like,
    ),
    Reader("vision/whole.png", write_labels, lambda path: whole_file(path, decoded=True) or True, FORMAT),
    Reader("vision/mask.png", encoded(".png", LABELS % 2), MASKS.read, FORMAT, like),
    Reader(
        "vision/labels.yaml", content("labels.yaml", LABEL_LIST), lambda path: labels_of(path.parent), (ConfigError,)
    ),
    Reader("vision/boxes.json", content("boxes.json", BOXES), read_coco, FORMAT),
    Reader("vision/official.pth", write_released, deq_vision.load, LOADING, like),
    Reader("vision/model.safetensors", write_ours, digested(deq_vision.load), LOADING, same),
    Reader(
        "vision/config.json",
        lambda folder: write_ours(folder).with_name("config.json"),
        lambda path: deq_vision.load(path.parent),
        LOADING,
        same,
    ),
)
