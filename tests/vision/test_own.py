"""Pictures of one's own in folders of classes; what docs/training.md makes of them is in test_training_page.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deq_core.experiment.data.images import write_image
from deq_core.experiment.data.layout import LayoutError
from deq_vision.data.sets.own.classes import OwnClasses, classes_of

COLOURS = {"apple": (200, 30, 30), "leaf": (30, 160, 40), "sky": (60, 110, 220)}


def picture(path: Path, colour: tuple[int, int, int], seed: int, size: tuple[int, ...] | None = None) -> Path:
    rng = np.random.default_rng(seed)
    height, width = (int(length) for length in rng.integers(50, 90, size=2)) if size is None else size
    noise = rng.normal(0, 20, (3, height, width)) + np.array(colour)[:, None, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.from_numpy(noise.clip(0, 255).astype(np.uint8)))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for place, (name, colour) in enumerate(COLOURS.items()):
        for number in range(6):
            picture(tmp_path / "pictures" / name / f"{number}.png", colour, 10 * place + number)
    (tmp_path / "pictures" / "notes").mkdir()
    return tmp_path / "pictures"


def names(pictures: OwnClasses) -> set[str]:
    return {pictures[index].name for index in range(len(pictures))}


def test_classes_are_the_folders_with_pictures_and_a_picture_is_held_out_or_trained_on(folders: Path) -> None:
    train, val = OwnClasses(folders, "train"), OwnClasses(folders, "val")
    assert train.classes == sorted(COLOURS)
    assert names(train).isdisjoint(names(val))
    assert len(train) + len(val) == 18
    assert {train[index].label for index in range(len(train))} == {val[index].label for index in range(len(val))}
    before = names(val)
    picture(folders / "sky" / "another.png", COLOURS["sky"], 99)
    assert before <= names(OwnClasses(folders, "val")) | {"sky/another.png"}


@pytest.mark.parametrize("held_out", ["val", "valid"])
def test_folders_of_splits_are_taken_as_they_are(held_out: str, tmp_path: Path) -> None:
    for split, count in (("train", 3), (held_out, 1)):
        for name, colour in COLOURS.items():
            for number in range(count):
                picture(tmp_path / split / name / f"{split}{number}.jpg", colour, number)
    assert [len(OwnClasses(tmp_path, split)) for split in ("train", "val", "test")] == [9, 3, 3]
    (tmp_path / held_out / f"sky/{held_out}0.jpg").unlink()
    with pytest.raises(LayoutError, match=rf"{held_out}: expected the classes of train; not in both: sky"):
        classes_of(tmp_path)


@pytest.mark.parametrize(
    ("count", "said"), [(0, "expected folders of at least two classes"), (1, "got 1"), (None, "there is none")]
)
def test_what_is_no_set_of_classes_is_refused_by_name(count: int | None, said: str, tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    if count is not None:
        root.mkdir()
        for name in list(COLOURS)[:count]:
            picture(root / name / "a.png", COLOURS[name], 0)
    with pytest.raises(LayoutError, match=said):
        classes_of(root)
