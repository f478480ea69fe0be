"""ImageNet VID and DET: boxes and tracks of XML files that are not trusted, and the images of lists."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deq_core.experiment.data.images import FileFormatError, encode
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.files import write_text
from deq_vision.data.classes import VID
from deq_vision.data.samples import Objects
from deq_vision.data.sets.annotations import read_annotation, write_annotation
from deq_vision.data.sets.imagenet_vid import ImageNetDet, ImageNetVid
from deq_vision.data.transforms import IMAGENET
from deq_vision.detection.params import Detect
from deq_vision.tasks import batches_in_order

RELEASED = """<annotation>
\t<folder>ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000</folder>
\t<filename>000000</filename>
\t<source><database>ILSVRC_2015</database></source>
\t<size><width>30</width><height>20</height></size>
\t<object>
\t\t<trackid>4</trackid><name>n02958343</name>
\t\t<bndbox><xmax>29</xmax><xmin>10</xmin><ymax>19</ymax><ymin>5</ymin></bndbox>
\t\t<occluded>1</occluded><generated>1</generated>
\t</object>
\t<object>
\t\t<trackid>5</trackid><name>n00000000</name>
\t\t<bndbox><xmax>9</xmax><xmin>1</xmin><ymax>9</ymax><ymin>1</ymin></bndbox>
\t\t<occluded>0</occluded><generated>0</generated>
\t</object>
</annotation>"""


def write_picture(path: Path, seed: int) -> None:
    encode(path, np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def write_vid(root: Path) -> None:
    base = root / "ILSVRC"
    for split, videos in {"train": ["part/b", "part/a"], "val": ["v"]}.items():
        for video in videos:
            for frame in range(7):
                place = f"VID/{split}/{video}/{frame:06d}"
                write_picture(base / "Data" / f"{place}.JPEG", frame)
                write_text(base / "Annotations" / f"{place}.xml", RELEASED)
    write_text(base / "ImageSets/VID/train_1.txt", "part/b 1\n")
    write_text(base / "ImageSets/VID/train_2.txt", "part/a 1\npart/b 1\n\n")
    write_text(base / "ImageSets/VID/val.txt", "".join(f"v/{frame:06d} {frame + 1}\n" for frame in range(7)))


def changed(old: str, new: str) -> str:
    assert old in RELEASED
    return RELEASED.replace(old, new)


def test_an_annotation_of_the_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(RELEASED)
    found = read_annotation(path, {"n02958343": 6})
    assert found.size == (20, 30)
    assert found.generated
    assert found.objects.boxes.tolist() == [[10, 5, 30, 20]]  # its last pixels belong to it
    assert found.objects.classes.tolist() == [6]
    assert found.objects.tracks.tolist() == [4]
    assert found.objects.occluded.tolist() == [True]
    assert len(read_annotation(path, {}).objects) == 0


def test_annotations_of_single_images_have_no_tracks(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(changed("<trackid>4</trackid>", "").replace("<occluded>1</occluded>", ""))
    found = read_annotation(path, {"n02958343": 0}).objects
    assert found.tracks.tolist() == [-1]
    assert found.occluded.tolist() == [False]


def test_boxes_are_cut_at_the_edges_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(changed("<xmax>29</xmax>", "<xmax>45</xmax>").replace("<ymin>5</ymin>", "<ymin>-3</ymin>"))
    assert read_annotation(path, {"n02958343": 0}).objects.boxes.tolist() == [[10, 0, 30, 20]]
    path.write_text(changed("<xmin>10</xmin>", "<xmin>30</xmin>").replace("<xmax>29", "<xmax>33"))
    assert len(read_annotation(path, {"n02958343": 0}).objects) == 0


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    objects = Objects.of([((1, 2, 5, 9), 0, 3, True), ((0, 0, 30, 20), 1, 0, False)])
    write_annotation(tmp_path / "000001.xml", "video", (20, 30), objects, {0: "n1", 1: "n2"})
    found = read_annotation(tmp_path / "000001.xml", {"n1": 0, "n2": 1})
    assert found.size == (20, 30)
    for name in ("boxes", "classes", "tracks", "occluded"):
        assert torch.equal(getattr(found.objects, name), getattr(objects, name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]>' + RELEASED, "no declarations, got one of a document type or an entity"),
        (RELEASED[:-20], "an XML file, got "),
        ("<html>Please log in</html>", "an element size/width in <html>, got none"),
        (changed("<xmax>29</xmax>", "<xmax>wide</xmax>"), "a whole number in bndbox/xmax, got 'wide'"),
        (changed("<xmax>29</xmax>", ""), "an element bndbox/xmax in <object>, got none"),
        (changed("<xmax>29</xmax>", "<xmax>9</xmax>"), "boxes that end after they begin"),
    ],
)
def test_a_damaged_annotation_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(content)
    with pytest.raises(FileFormatError, match=rf"a\.xml: expected {message}"):
        read_annotation(path, {"n02958343": 0})


def test_an_annotation_that_hides_declarations_or_is_huge_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a []>' + RELEASED).encode("utf-16"))
    with pytest.raises(FileFormatError, match=r"a\.xml: expected an XML file, got 'utf-8' codec"):
        read_annotation(path, {})
    path.write_text(RELEASED + " " * 4_000_000)
    with pytest.raises(FileFormatError, match="at most 4000000 bytes"):
        read_annotation(path, {})


def test_the_videos_are_those_of_the_lists(tmp_path: Path) -> None:
    write_vid(tmp_path)
    train = ImageNetVid(tmp_path)
    assert train.sequences() == {"part/a": range(7), "part/b": range(7, 14)}
    assert train[7].name == "part/b/000000"
    assert train[7].objects.classes.tolist() == [list(VID).index("n02958343")]
    assert train.annotation(7).generated
    assert [train[index].name[-6:] for index in range(7)] == [f"{frame:06d}" for frame in range(7)]
    some = ImageNetVid(tmp_path, frames_per_video=3)
    assert [some[index].name for index in range(3)] == ["part/a/000000", "part/a/000002", "part/a/000004"]
    assert ImageNetVid(tmp_path, "val").sequences() == {"v": range(7)}


def test_frames_of_two_sizes_are_measured_apart_since_padding_changes_what_a_network_sees(tmp_path: Path) -> None:
    write_vid(tmp_path)
    base = tmp_path / "ILSVRC"
    encode(base / "Data/VID/val/v/000003.JPEG", np.zeros((40, 50, 3), dtype=np.uint8))
    size = changed("<width>30</width><height>20</height>", "<width>50</width><height>40</height>")
    write_text(base / "Annotations/VID/val/v/000003.xml", size)
    task = Detect(objects="vid", normalisation=IMAGENET)
    shapes = [tuple(batch.images.shape) for batch in batches_in_order(task, tmp_path, "val", 4, multiple=8)]
    assert shapes == [(3, 3, 24, 32), (1, 3, 40, 56), (3, 3, 24, 32)]


def test_vid_says_what_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"ImageSets/VID: .*unpack ILSVRC2015_VID\.tar\.gz"):
        ImageNetVid(tmp_path)
    with pytest.raises(LayoutError, match=r"val\.txt: expected a list, but there is none"):
        ImageNetVid(tmp_path, "val")
    write_vid(tmp_path)
    annotation = tmp_path / "ILSVRC/Annotations/VID/val/v/000003.xml"
    annotation.write_text(changed("<width>30</width>", "<width>31</width>"))
    with pytest.raises(FileFormatError, match=r"000003\.xml: expected the size of its image, 30x20, got 31x20"):
        ImageNetVid(tmp_path, "val")[3]
    annotation.unlink()
    with pytest.raises(LayoutError, match=r"1 files are missing \(annotations of the frames\): .*000003\.xml"):
        ImageNetVid(tmp_path, "val")
    for number in (1, 2):
        (tmp_path / f"ILSVRC/ImageSets/VID/train_{number}.txt").write_text("")
    with pytest.raises(FileFormatError, match="expected a list of videos, here or in its neighbours, got empty files"):
        ImageNetVid(tmp_path)
    with pytest.raises(ValueError, match="frames_per_video must be at least 1, got 0"):
        ImageNetVid(tmp_path, frames_per_video=0)


def test_the_images_of_det_are_those_of_a_list(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC"
    with pytest.raises(LayoutError, match=r"DET_train_30classes\.txt: expected a list"):
        ImageNetDet(tmp_path)
    write_text(base / "ImageSets/DET_train_30classes.txt", "train/x/n1_2 1\n")
    with pytest.raises(LayoutError, match=r"1 files are missing .*images of DET_train_30classes"):
        ImageNetDet(tmp_path)
    write_picture(base / "Data/DET/train/x/n1_2.JPEG", 0)
    with pytest.raises(LayoutError, match="annotations of DET_train_30classes"):
        ImageNetDet(tmp_path)
    write_text(base / "Annotations/DET/train/x/n1_2.xml", RELEASED)
    sample = ImageNetDet(tmp_path)[0]
    assert sample.name == "train/x/n1_2"
    assert len(sample.objects) == 1
