"""Videos of streets: exact labels, boxes and tracks in both layouts, divided by photograph, always the same bytes."""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deq_core.experiment.data import photographs
from deq_core.experiment.outputs.written import files_of
from deq_vision.data.classes import STREET, STREET_OBJECTS
from deq_vision.data.mini import write_street as mini_street
from deq_vision.data.mini.write_street import MiniStreetConfig, write_street
from deq_vision.data.sets.cityscapes import Cityscapes, CityscapesVideos
from deq_vision.data.sets.imagenet_vid import ImageNetVid

CONFIG = MiniStreetConfig(height=48, width=96, train_streets=3, train_frames=2, val_streets=1, test_streets=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "street"
    write_street(path, CONFIG)
    return path


def digests(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(root)}


def test_cityscapes_has_one_annotated_frame_a_street(root: Path) -> None:
    assert [len(Cityscapes(root, split, labels=STREET)) for split in ("train", "val", "test")] == [3, 1, 2]
    for sample in (Cityscapes(root, "test", labels=STREET)[index] for index in range(2)):
        assert sample.image.shape == (3, 48, 96)
        assert int(sample.labels.max()) < len(STREET)  # no pixel is of no class
        assert len(sample.labels.unique()) >= 4


def test_videos_have_thirty_frames_of_which_the_twentieth_is_the_annotated_one(root: Path) -> None:
    videos = CityscapesVideos(root, "val", after=10, labels=STREET)
    annotated = Cityscapes(root, "val", labels=STREET)
    assert len(videos) == 1
    assert len(videos[0]) == 30
    assert videos[0].annotated == 19
    assert torch.equal(videos[0].image(19), annotated[0].image)
    sample = videos[0].segmented(19)
    assert sample is not None
    assert torch.equal(sample.labels, annotated[0].labels)
    assert sample.name == annotated[0].name == videos[0].name == "midtown_000000_000019"


def test_detection_and_segmentation_show_the_same_videos(root: Path) -> None:
    """But for JPEG, which the layout of ImageNet VID asks for."""
    frames = ImageNetVid(root, "test", classes=STREET_OBJECTS)
    videos = CityscapesVideos(root, "test", after=10, labels=STREET)
    for video, (name, indices) in zip(videos, frames.sequences().items(), strict=True):
        assert name.endswith(video.name.split("_")[1])
        for place in (0, 19, 29):
            difference = frames[indices[place]].image.float() - video.image(place).float()
            assert difference.abs().mean() < 6


def test_boxes_are_the_extents_of_the_instance_masks(root: Path) -> None:
    frames = ImageNetVid(root, "test", classes=STREET_OBJECTS)
    names = tuple(STREET_OBJECTS.values())
    found = 0
    for index, (video, indices) in enumerate(frames.sequences().items()):
        stem = f"southtown_{index:06d}_000019_gtFine"
        folder = root / "cityscapes/gtFine/test/southtown"
        ids = cv2.imread(str(folder / f"{stem}_instanceIds.png"), cv2.IMREAD_UNCHANGED)
        labels = cv2.imread(str(folder / f"{stem}_labelIds.png"), cv2.IMREAD_UNCHANGED)
        assert ids is not None
        assert labels is not None
        assert np.array_equal(np.where(ids >= 1000, ids // 1000, ids), labels)
        masks = {}
        for number in np.unique(ids[ids >= 1000]):
            y, x = np.nonzero(ids == number)
            if len(x) >= CONFIG.least_pixels:
                label = STREET.names[STREET.ids.index(number // 1000)]
                masks[x.min(), y.min(), x.max() + 1, y.max() + 1] = names.index(label)
        objects = frames[indices[19]].objects
        boxes = [tuple(box) for box in objects.boxes.int().tolist()]
        assert dict(zip(boxes, objects.classes.tolist(), strict=True)) == masks, video
        found += len(masks)
    assert found >= 3


def test_objects_move_and_keep_their_tracks_as_they_did_in_published_data(root: Path) -> None:
    frames = ImageNetVid(root, "test", classes=STREET_OBJECTS)
    for indices, number, extents, tracks in zip(
        frames.sequences().values(), (61, 96), (116991, 269205), (4108, 5968), strict=True
    ):
        objects = [frames[index].objects for index in indices]
        assert sum(map(len, objects)) == number
        assert sum(time * int(one.boxes.sum()) for time, one in enumerate(objects)) == extents
        assert sum(time * int(one.tracks.sum()) for time, one in enumerate(objects)) == tracks


def test_training_videos_are_listed_by_the_classes_they_show(root: Path) -> None:
    folder = root / "ILSVRC/ImageSets/VID"
    frames = ImageNetVid(root, "train", classes=STREET_OBJECTS)
    shown: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    for video, indices in frames.sequences().items():
        assert len(indices) == CONFIG.train_frames
        for index in indices:
            for kind in frames[index].objects.classes.tolist():
                shown[kind].add(video)
    for kind, videos in shown.items():
        lines = (folder / f"train_{kind + 1}.txt").read_text().split("\n")[:-1]
        assert lines == [f"{video} 1" for video in sorted(videos)]


def test_each_split_is_made_from_its_own_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    load_all = photographs.load_all

    def recorded(names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
        used.append(names)
        return load_all(names)

    monkeypatch.setattr(photographs, "load_all", recorded)
    monkeypatch.setattr(mini_street, "SNIPPET", 20)
    write_street(tmp_path / "street", replace(CONFIG, train_streets=1, train_frames=1, test_streets=1))
    assert used == [photographs.TRAINING, photographs.VALIDATION, photographs.TEST]


def test_the_same_configuration_gives_the_same_bytes_and_items_depend_on_no_other(root: Path, tmp_path: Path) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        write_street(tmp_path / "again", replace(CONFIG, train_streets=2, val_streets=1, test_streets=1))
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    first, second = digests(root), digests(tmp_path / "again")
    lists = {
        "manifest.json",
        *(f"ILSVRC/ImageSets/VID/{name}.txt" for name in ("train_1", "train_2", "train_3", "test")),
    }
    assert {name for name in second if first[name] != second[name]} <= lists


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 16}, "height must be at least 32, got 16"),
        ({"train_frames": 12}, "train_frames must be at most 11, got 12"),
        ({"test_streets": 0}, "test_streets must be at least 1, got 0"),
    ],
)
def test_settings_are_checked_when_made(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MiniStreetConfig(**change)  # pyright: ignore[reportArgumentType]  # one wrong value at a time
