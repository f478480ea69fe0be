"""What a network gives for frames as files for other programs: masks, boxes or scores, and the list of its labels."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
from torch import Tensor

from deq_core.experiment.data.indexed import write_indexed
from deq_core.experiment.files import write_json
from deq_vision.data.samples import IGNORE_INDEX
from deq_vision.demo.label_space import LabelSpace
from deq_vision.demo.viewer import Viewer
from deq_vision.detection.decoding import Detections

LABELS, SCORES = "labels.json", "scores.csv"


class Raw:
    """Files in a folder, which each frame adds to, so that a video may have any length.

    - labels.json: name, id and colour of each class. In masks and boxes classes have these ids: those of one's own
      data, of Cityscapes' label files, or numbers, from 0 in masks and from 1 in boxes.
    - masks/NAME.png, of segmentation: an indexed PNG of the frame's size; pixels are ids, and the palette shows them.
    - boxes/NAME.json, of detection: a list in COCO's format of results, of image_id, category_id, bbox (left, top,
      width, height in pixels) and score; image_id counts the frames from 1.
    - scores.csv, of classification: a row for each frame, its name and the probability of each class.
    """

    def __init__(self, folder: Path, viewer: Viewer) -> None:
        self.folder, self.viewer = folder, viewer
        write_json(folder / LABELS, listed(viewer.label_space))
        if viewer.label_space.task == "classify":
            self._append(["image", *viewer.label_space.names])

    def add(self, name: str, number: int, logits: Tensor, images: Tensor, frame: Tensor) -> None:
        """Writes what a network gave for a frame uint8 (3, h, w), as which it saw `images`; see `Viewer`.

        Args:
            name: of the frame, and of its file.
            number: of the frame, from 1.
            logits: of the frame.
            images: the frame as the network saw it.
            frame: as it is.
        """
        match self.viewer.label_space.task:
            case "classify":
                self._append([name, *(f"{value:.6f}" for value in self.viewer.probabilities(logits).tolist())])
            case "segment":
                classes = self.viewer.classes(logits, images, frame)
                write_mask(self.folder / "masks" / f"{name}.png", classes.numpy(), self.viewer.label_space)
            case "detect":
                found = self.viewer.detections(logits, images, frame)
                rows = coco_results(found, number, self.viewer.label_space)
                write_json(self.folder / "boxes" / f"{name}.json", rows)

    def _append(self, row: list[str]) -> None:
        line = StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        with (self.folder / SCORES).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line.getvalue())


def listed(label_space: LabelSpace) -> list[dict[str, object]]:
    """The classes in the order of the network's outputs, as JSON has them."""
    rows = zip(label_space.names, label_space.ids, label_space.colours, strict=True)
    return [{"name": name, "id": number, "colour": list(colour)} for name, number, colour in rows]


def write_mask(path: Path, classes: np.ndarray, label_space: LabelSpace) -> None:
    """Writes int64 (h, w) classes as a mask of their ids."""
    palette = [(0, 0, 0)] * (IGNORE_INDEX + 1)
    for number, colour in zip(label_space.ids, label_space.colours, strict=True):
        palette[number] = colour
    write_indexed(path, np.array(label_space.ids, dtype=np.uint8)[classes], palette)


def coco_results(found: Detections, number: int, label_space: LabelSpace) -> list[dict[str, object]]:
    """The detections of the frame of that number as COCO's format of results has them."""
    return [
        {
            "image_id": number,
            "category_id": label_space.ids[kind],
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        for (left, top, right, bottom), score, kind in zip(
            found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True
        )
    ]
