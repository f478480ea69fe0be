"""Writes results for frames as files for other programs: masks, boxes or scores, and labels."""

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
    """Writes results to a folder frame by frame, so that a video may have any length.

    - labels.json: name, id and colour of each class. Masks and boxes use these ids: those of your own data, of
      Cityscapes' label files, or numbers, from 0 in masks and from 1 in boxes.
    - masks/NAME.png, for segmentation: an indexed PNG of the frame's size, with ids as pixels and colours as palette.
    - boxes/NAME.json, for detection: a list in COCO's results format, with image_id, category_id, bbox (left, top,
      width, height in pixels) and score; image_id counts the frames from 1.
    - scores.csv, for classification: one row per frame, with its name and the probability of each class.
    """

    def __init__(self, folder: Path, viewer: Viewer) -> None:
        self.folder, self.viewer = folder, viewer
        write_json(folder / LABELS, listed(viewer.label_space))
        if viewer.label_space.task == "classify":
            self._append(["image", *viewer.label_space.names])

    def add(self, name: str, number: int, logits: Tensor, images: Tensor, frame: Tensor) -> None:
        """Writes the results for a frame; see `Viewer`.

        Args:
            name: name of the frame and of its file.
            number: number of the frame, from 1.
            logits: output of the network.
            images: input of the network.
            frame: original frame, uint8 (3, h, w).
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
    """The classes in the order of the network's outputs, as a JSON list."""
    rows = zip(label_space.names, label_space.ids, label_space.colours, strict=True)
    return [{"name": name, "id": number, "colour": list(colour)} for name, number, colour in rows]


def write_mask(path: Path, classes: np.ndarray, label_space: LabelSpace) -> None:
    """Writes int64 (h, w) classes as a mask of their ids."""
    palette = [(0, 0, 0)] * (IGNORE_INDEX + 1)
    for number, colour in zip(label_space.ids, label_space.colours, strict=True):
        palette[number] = colour
    write_indexed(path, np.array(label_space.ids, dtype=np.uint8)[classes], palette)


def coco_results(found: Detections, number: int, label_space: LabelSpace) -> list[dict[str, object]]:
    """The detections of frame `number` in COCO's results format."""
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
