"""Pictures of one's own in folders of classes; what docs/training.md makes of them is in test_training_page.py."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deq_core.experiment import config
from deq_core.experiment.data.contents import contents
from deq_core.experiment.data.images import read_image, write_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.files import write_json
from deq_core.experiment.outputs.written import RECORD
from deq_vision import build
from deq_vision.commands.training import RECIPES, own_layout, with_own_labels
from deq_vision.config import ModelConfig
from deq_vision.data.sets.own.classes import OwnClasses, classes_of
from deq_vision.data.sets.own.layout import files_of, layout_of
from deq_vision.data.transforms import Normalisation, centre_crop
from deq_vision.demo.label_space import label_space_of
from deq_vision.demo.viewer import Viewer
from deq_vision.params import Experiment

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
    (tmp_path / "pictures" / "notes" / "read.me").touch()
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
    picture(folders / "sky" / os.fsdecode(b"an\xe9ther.png"), COLOURS["sky"], 99)
    assert before <= names(OwnClasses(folders, "val")) | {os.fsdecode(b"sky/an\xe9ther.png")}


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


def test_a_class_with_the_name_of_a_split_is_refused_with_the_reason(folders: Path) -> None:
    picture(folders / "train/engine.png", COLOURS["apple"], 0)
    with pytest.raises(LayoutError, match=r"train: expected the training split, .* got pictures; rename the class"):
        classes_of(folders)


@pytest.mark.parametrize("count", [3, 10])
@pytest.mark.parametrize("crop", [None, (20, 16)])
def test_a_network_is_shown_pictures_as_it_was_trained_on_them(
    count: int, crop: tuple[int, int] | None, tmp_path: Path
) -> None:
    """Ten classes and pictures as they are stood for CIFAR's before, whatever the recipe says."""
    for number in range(count):
        for place in range(2):
            picture(tmp_path / f"class{number}" / f"{place}.png", COLOURS["leaf"], place, size=(16, 24))
    settings = config.load(Experiment, RECIPES / "classes.yaml")
    pixels = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    settings = with_own_labels(
        replace(settings, task=replace(settings.task, normalisation=pixels, test_crop=crop)), tmp_path
    )
    write_json(tmp_path / "config.json", config.plain(settings.model))  # as beside the weights
    model = build("mini-digits", head=config.load(ModelConfig, tmp_path / "config.json").architecture.head)
    space = label_space_of(model)
    assert (space.normalisation, space.crop) == (pixels, crop)
    assert space.own_task() == replace(settings.task, augment=None)
    image = read_image(tmp_path / "class0/0.png")
    expected = pixels.apply(image if crop is None else centre_crop(image, short_side=20, size=16))[None]
    assert torch.equal(Viewer(model, space).prepare(image), expected)


def test_another_training_is_not_gone_on_with_after_pictures_changed(folders: Path, tmp_path: Path) -> None:
    def found(root: Path) -> list[tuple[str, str]]:
        return contents(files_of(root, "classes"))

    before = found(folders)
    assert len(before) == 18
    (folders / "notes/log.txt").write_text("what no training reads")
    assert found(folders) == before
    other = picture(folders / "sky/0.png", COLOURS["leaf"], 7)
    changed = found(folders)
    assert changed != before
    other.rename(other.with_name("other.png"))
    assert len({str(each) for each in (before, changed, found(folders))}) == 3
    elsewhere = tmp_path / "elsewhere"
    folders.rename(elsewhere)
    assert {Path(path).is_relative_to(elsewhere) for path, _ in found(elsewhere)} == {True}


@pytest.mark.parametrize("other", ["sources.json", "masks/worn.png"])
def test_classes_that_are_asked_for_are_read_where_the_folder_could_be_of_another_layout(
    other: str, folders: Path
) -> None:
    if other.endswith(".json"):
        (folders / other).write_text("[]")
    else:
        picture(folders / other, COLOURS["sky"], 0)
        picture(folders / "masks/new.png", COLOURS["sky"], 1)
    assert layout_of(folders) != "classes"
    layout = own_layout(config.load(Experiment, RECIPES / "classes.yaml").task)
    assert layout is not None
    assert set(files_of(folders, layout)) == set(folders.rglob("*.png"))


@pytest.mark.parametrize("name", [".Trash-1000/a.png", "seen/a.png"])
def test_hidden_folders_and_what_a_command_wrote_are_no_classes(name: str, folders: Path) -> None:
    picture(folders / name, COLOURS["sky"], 0)
    (folders / "seen").mkdir(exist_ok=True)
    (folders / "seen" / RECORD).write_text("{}")
    assert classes_of(folders) == sorted(COLOURS)


def test_an_empty_folder_beside_those_of_classes_is_a_warning(folders: Path) -> None:
    (folders / "cat").mkdir()
    with pytest.warns(UserWarning, match=r"cat: an empty folder, so no class; put the pictures of a class in it"):
        assert classes_of(folders) == sorted(COLOURS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cat/2024/a.png", r"cat: expected the pictures of a class in its folder, got them in .*cat/2024; move them"),
        ("cat/a.HEIC", r"a\.HEIC: expected pictures \(\.bmp, .*\), got one of another kind; convert it"),
        ("sky/b.gif", r"b\.gif: expected pictures"),
        (os.fsdecode(b"caf\xe9/b.png"), r"expected a name in UTF-8, got b'caf\\xe9'; rename it"),
    ],
)
def test_pictures_that_would_be_left_out_in_silence_or_crash_a_demo_are_refused_by_name(
    name: str, said: str, folders: Path
) -> None:
    (folders / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folders / "sky/0.png", folders / name)
    with pytest.raises(LayoutError, match=said):
        classes_of(folders)
