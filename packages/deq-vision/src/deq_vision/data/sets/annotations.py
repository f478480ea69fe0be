"""The XML files of ImageNet's detection sets, in the format of PASCAL VOC: boxes, classes and tracks of one image."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from deq_core.experiment.data.images import FileFormatError, damaged
from deq_core.experiment.files import write_text
from deq_core.experiment.reading import decoding, read_text
from deq_vision.data.samples import Objects

LARGEST = 4_000_000  # bytes; the files of the release have a few thousand


@dataclass(frozen=True)
class Annotation:
    """Annotation of one image."""

    size: tuple[int, int]
    """(h, w), pixels."""
    objects: Objects
    generated: bool
    """Whether a box was interpolated between manually annotated frames."""


def read_annotation(path: Path, classes: Mapping[str, int]) -> Annotation:
    """Reads the objects of the given classes, {WordNet id: index}; others are left out.

    A box in the file is given by its first and last pixels, counted from 0, as the benchmark computes sizes. Boxes are
    clipped to the image, and those without a pixel inside left out.

    Raises:
        FileFormatError: the file is damaged, too large, of another format, or declares entities or document types.
    """
    root = parse(path)
    width, height = (number(path, root, f"size/{name}") for name in ("width", "height"))
    if width < 1 or height < 1:
        raise damaged(path, "a size of at least 1x1 pixels", f"{width}x{height}")
    rows = []
    generated = False
    for entry in root.iterfind("object"):
        name = text(path, entry, "name")
        if name not in classes:
            continue
        left, top, right, bottom = (number(path, entry, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        if right < left or bottom < top:
            raise damaged(path, "boxes that end after they begin", f"{(left, top, right, bottom)} of {name}")
        box = (max(left, 0), max(top, 0), min(right + 1, width), min(bottom + 1, height))
        if box[2] > box[0] and box[3] > box[1]:
            track = number(path, entry, "trackid") if entry.find("trackid") is not None else -1
            rows.append((box, classes[name], track, flag(path, entry, "occluded")))
            generated = generated or flag(path, entry, "generated")
    return Annotation((height, width), Objects.of(rows), generated)


def write_annotation(
    path: Path, folder: str, size: tuple[int, int], objects: Objects, names: Mapping[int, str]
) -> None:
    """Writes a file that `read_annotation` reads.

    Args:
        path: path of the file; its stem is that of the image.
        folder: folder of the image, as named in the file.
        size: (h, w) of the image, pixels.
        objects: objects, with boxes at whole pixels.
        names: {index of a class: WordNet id}.
    """
    root = ElementTree.Element("annotation")
    element(root, "folder", folder)
    element(root, "filename", path.stem)
    element(ElementTree.SubElement(root, "source"), "database", "deq-vision mini")
    extent = ElementTree.SubElement(root, "size")
    element(extent, "width", size[1])
    element(extent, "height", size[0])
    for index, box in enumerate(objects.boxes.int().tolist()):
        entry = ElementTree.SubElement(root, "object")
        element(entry, "trackid", int(objects.tracks[index]))
        element(entry, "name", names[int(objects.classes[index])])
        bounds = ElementTree.SubElement(entry, "bndbox")
        for side, value in (("xmax", box[2] - 1), ("xmin", box[0]), ("ymax", box[3] - 1), ("ymin", box[1])):
            element(bounds, side, value)
        element(entry, "occluded", int(objects.occluded[index]))
        element(entry, "generated", 0)
    ElementTree.indent(root, "\t")
    write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")


def parse(path: Path) -> ElementTree.Element:
    """Parses an XML file and returns its root. Declarations are refused, since entities can expand to fill all memory.

    Raises:
        FileFormatError: the file is not well-formed, too large, or declares something.
    """
    length = path.stat().st_size
    if length > LARGEST:
        raise damaged(path, f"at most {LARGEST} bytes of annotations", f"{length}")
    content = read_text(path, FileFormatError, expected="an XML file")
    if re.search(r"<!(?!--)", content):
        raise damaged(path, "no declarations", "one of a document type or an entity")
    with decoding(path, FileFormatError, "an XML file"):
        return ElementTree.fromstring(content)


def text(path: Path, parent: ElementTree.Element, place: str) -> str:
    found = parent.findtext(place)
    if found is None or not found.strip():
        raise damaged(path, f"an element {place} in <{parent.tag}>", "none")
    return found.strip()


def number(path: Path, parent: ElementTree.Element, place: str) -> int:
    found = text(path, parent, place)
    if not re.fullmatch(r"-?\d{1,9}", found):
        raise damaged(path, f"a whole number in {place}", repr(found))
    return int(found)


def flag(path: Path, parent: ElementTree.Element, place: str) -> bool:
    """Whether an optional element holds 1."""
    return parent.find(place) is not None and number(path, parent, place) == 1


def element(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)
