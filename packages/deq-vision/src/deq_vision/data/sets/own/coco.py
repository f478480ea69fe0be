"""Boxes in COCO's JSON format for object detection (Lin et al., ECCV 2014), https://cocodataset.org/#format-data."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.reading import decoding, read_text
from deq_vision.data.samples import Objects

MARGIN = 1.0
"""Pixels by which a box may exceed its image, because of rounding, before it is an error; it is clipped."""

MOST = 1e6
"""Limit on coordinates, in pixels; greater ones are errors."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CocoFile:
    """Contents of an annotation file."""

    categories: Mapping[int, str]
    """Names by id, sorted by id; their order is that of the classes."""
    sizes: Mapping[str, tuple[int, int]]
    """(h, w) of each image, by the last part of its file_name."""
    objects: Mapping[str, Objects]
    """Objects of each image by the same key, possibly none. The area of an object is that of its annotation, for
    example of a mask, or of its box if the annotation has none above 0."""
    crowds: Mapping[str, Objects]
    """Annotations of each image with `iscrowd`, by the same key; these do not count as objects."""


def read_coco(path: Path) -> CocoFile:
    """Reads a file; the result is cached and must not be modified. Boxes in the file are left, top, width and height.

    Raises:
        FileFormatError: the file is not JSON, an entry is incomplete, an id is duplicate or unknown, or a box is empty
            or outside its image.
    """
    found = path.stat()
    return _read(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, *_: int) -> CocoFile:
    """Cached `read_coco`, keyed by modification time and size, because each validation reads the file again."""
    text = read_text(path, FileFormatError, expected="a JSON file")
    with decoding(path, FileFormatError, "a JSON file"):
        document = json.loads(text)
    categories, images = Entries(path, document, "categories"), Entries(path, document, "images")
    names = dict(sorted(categories.by_id("name", str).items()))
    if not names or not all(names.values()) or len(set(names.values())) < len(names):
        raise wrong(path, "categories", "at least one, each with a name of its own", list(names.values()))
    files = {number: PurePosixPath(name).name for number, name in images.by_id("file_name", str).items()}
    if twice := [name for name, count in Counter(files.values()).items() if count > 1]:
        raise wrong(path, "images", "every file_name once, without its folders", twice[0])
    heights, widths = images.by_id("height", int), images.by_id("width", int)
    rows: dict[int, list[tuple[Box, int, int, bool]]] = {number: [] for number in files}
    areas: dict[int, list[float]] = {number: [] for number in files}
    crowds: dict[int, list[tuple[Box, int, int, bool]]] = {number: [] for number in files}
    classes = {number: index for index, number in enumerate(names)}
    annotations = Entries(path, document, "annotations")
    for place in range(len(annotations.entries)):
        of = annotations.value(place, "image_id", int)
        if of not in files:
            raise wrong(path, f"annotations[{place}].image_id", "the id of one of images", of)
        category = annotations.value(place, "category_id", int)
        if category not in classes:
            known = ", ".join(f"{number} ({name})" for number, name in names.items())
            raise wrong(path, f"annotations[{place}].category_id", f"one of categories, {known}", category)
        where = f"annotations[{place}].bbox"
        box = inside(path, where, annotations.value(place, "bbox", list), files[of], (heights[of], widths[of]))
        if annotations.entries[place].get("iscrowd", 0) == 1:
            crowds[of].append((box, classes[category], -1, False))
            continue
        rows[of].append((box, classes[category], -1, False))
        areas[of].append(area_of(annotations.entries[place].get("area"), box))
    return CocoFile(
        categories=names,
        sizes={name: (heights[number], widths[number]) for number, name in files.items()},
        objects={
            name: replace(Objects.of(rows[number]), areas=torch.tensor(areas[number])) for number, name in files.items()
        },
        crowds={name: Objects.of(crowds[number]) for number, name in files.items()},
    )


def area_of(said: Any, box: Box) -> float:
    """The area of an object in pixels: `said` if that is a valid area, else the box's."""
    if isinstance(said, int | float) and 0 < said < MOST**2:
        return float(said)
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def inside(path: Path, where: str, box: list[Any], name: str, size: tuple[int, int]) -> Box:
    """Left, top, right and bottom of a box in the file, clipped to its image (h, w)."""
    if len(box) != 4 or not all(isinstance(value, int | float) and abs(value) < MOST for value in box):
        raise wrong(path, where, "four numbers: left, top, width and height", box)
    left, top, width, height = (float(value) for value in box)
    if width <= 0 or height <= 0:
        raise wrong(path, where, "a width and height above 0", box)
    far = min(left, top) < -MARGIN or left + width > size[1] + MARGIN or top + height > size[0] + MARGIN
    cut = (max(left, 0.0), max(top, 0.0), min(left + width, size[1]), min(top + height, size[0]))
    found = torch.tensor(cut)  # in single precision, narrow boxes may become empty
    if far or (found[2:] <= found[:2]).any():
        raise wrong(path, where, f"a box within {name}, which has {size[1]}x{size[0]} pixels", box)
    return cut


class Entries:
    """A list of mappings in a file, with checked access."""

    def __init__(self, path: Path, document: Any, key: str) -> None:
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise wrong(path, key, "a list, as in COCO's files of instances", type_of(document, key))
        self.path, self.key, self.entries = path, key, document[key]
        for place, entry in enumerate(self.entries):
            if not isinstance(entry, dict):
                raise wrong(path, f"{key}[{place}]", "a mapping", entry)

    def value(self, place: int, name: str, kind: type) -> Any:
        """A value of an entry; raises FileFormatError if it is missing or of another type."""
        found = self.entries[place].get(name)
        if isinstance(found, float) and kind is int and found.is_integer():
            return int(found)  # some programs write ids and sizes as floats
        if not isinstance(found, kind) or isinstance(found, bool):
            word = {int: "a whole number", str: "a text", list: "a list"}[kind]
            raise wrong(self.path, f"{self.key}[{place}].{name}", word, found)
        return found

    def by_id(self, name: str, kind: type) -> dict[int, Any]:
        """One value of each entry, by id."""
        found: dict[int, Any] = {}
        for place in range(len(self.entries)):
            number = self.value(place, "id", int)
            if number in found:
                raise wrong(self.path, f"{self.key}[{place}].id", "every id once", number)
            found[number] = self.value(place, name, kind)
        return found


def type_of(document: Any, key: str) -> str:
    """Name of the type found in place of a list."""
    return type(document.get(key)).__name__ if isinstance(document, dict) else f"a file of {type(document).__name__}"


def wrong(path: Path, where: str, expected: str, got: object) -> FileFormatError:
    """The error for an entry at a place in the file."""
    text = repr(got)
    return FileFormatError(
        f"{path}: {where}: expected {expected}, got {text if len(text) <= 100 else text[:97] + '...'}; correct it there"
    )
