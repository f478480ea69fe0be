"""Pictures of one's own with boxes in COCO's format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.vision.test_own import picture

from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.errors import UserError
from deq_vision.baselines.evaluate import of_boxes
from deq_vision.baselines.params import Boxes
from deq_vision.data.samples import AnnotatedImage, Objects
from deq_vision.data.sets.own.boxes import OwnBoxes
from deq_vision.data.sets.own.coco import read_coco
from deq_vision.data.sets.own.layout import layout_of
from deq_vision.data.sets.own.splits import Split
from deq_vision.data.transforms import IMAGENET
from deq_vision.detection.decoding import encode
from deq_vision.detection.params import Detect
from deq_vision.detection.task import DetectionTally, fit
from deq_vision.evaluate import Evaluate
from deq_vision.tasks import batches_in_order

HEIGHT, WIDTH = 40, 60
Change = Callable[[dict[str, Any]], object]


def document(names: list[str]) -> dict[str, Any]:
    """A leaf and an apple in every picture but the second, and a crowd in the third."""
    annotations = [
        {"id": 9, "image_id": 12, "category_id": 4, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        *(
            {"id": 20 + n, "image_id": 10 + n, "category_id": 4, "bbox": [5, 6, 20.5, 10]}
            for n in range(len(names))
            if n != 1
        ),
        *(
            {"id": 40 + n, "image_id": 10 + n, "category_id": 2, "bbox": [50, 20, 10.4, 20]}
            for n in range(len(names))
            if n != 1
        ),
    ]
    return {
        "info": {"year": 2026},
        "images": [
            {"id": 10 + n, "file_name": f"shots/{name}", "width": WIDTH, "height": HEIGHT, "license": 1}
            for n, name in enumerate(names)
        ],
        "annotations": annotations,
        "categories": [{"id": 4, "name": "apple"}, {"id": 2, "name": "leaf", "supercategory": "plant"}],
    }


def write(root: Path, names: list[str], place: str = "boxes.json", folder: str = "images") -> Path:
    for number, name in enumerate(names):
        picture(root / folder / name, (120, 90, 40), number, size=(HEIGHT, WIDTH))
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text(json.dumps(document(names)))
    return root


@pytest.mark.parametrize("place", ["boxes.json", "annotations/instances_default.json"])
@pytest.mark.parametrize("folder", ["images", "."])
def test_boxes_and_their_categories_are_read_in_the_order_of_the_ids(place: str, folder: str, tmp_path: Path) -> None:
    write(tmp_path, [f"{number}.png" for number in range(6)], place, folder)
    assert layout_of(tmp_path) == "boxes"
    train, val = OwnBoxes(tmp_path), OwnBoxes(tmp_path, "val")
    assert dict(train.categories) == {2: "leaf", 4: "apple"}
    found = {sample.name: sample.objects for part in (train, val) for sample in map(part.__getitem__, range(len(part)))}
    assert len(train) + len(val) == len(found) == 6
    assert len(found["1.png"]) == 0, "nothing is in it"
    for name in ("0.png", "2.png"):
        assert found[name].classes.tolist() == [1, 0], "crowds are left out"
        assert found[name].boxes.tolist() == [[5, 6, 25.5, 16], [50, 20, 60, 40]], "cut at the edge"


def test_splits_have_files_of_their_own_with_the_same_categories(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, ["a.png", f"{split}.png", "z.png"], folder=".")
    assert [path.stem for path in OwnBoxes(tmp_path, "test").images] == ["a", "val", "z"]
    path = tmp_path / "val/boxes.json"
    path.write_text(path.read_text().replace("apple", "pear"))
    with pytest.raises(
        UserError, match=r"val/boxes.json: expected the categories of .*train/boxes.json, got others: 4"
    ):
        OwnBoxes(tmp_path, "val")


def put(key: str, name: str, value: object) -> Change:
    """Another value in the last entry of a list."""
    return lambda found: found[key][-1].update({name: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            put("annotations", "category_id", 3),
            r"annotations\[4\].category_id: expected one of categories, 2 \(leaf\), 4",
        ),
        (put("annotations", "image_id", 99), r"annotations\[4\].image_id: expected the id of one of images, got 99"),
        (
            put("annotations", "bbox", [50, 20, 20, 10]),
            r"bbox: expected a box within 2.png, which has 60x40 pixels, got",
        ),
        (put("annotations", "bbox", [-3, 20, 20, 10]), r"bbox: expected a box within 2.png"),
        (put("annotations", "bbox", [1, 2, 0, 4]), r"bbox: expected a width and height above 0, got \[1, 2, 0, 4\]"),
        (put("annotations", "bbox", [1, 2, 1e-9, 4]), r"bbox: expected a box within"),
        (put("annotations", "bbox", [1, 2, 3]), r"bbox: expected four numbers: left, top, width and height"),
        (put("annotations", "bbox", [1, 2, 3, float("nan")]), "expected four numbers"),
        (put("annotations", "bbox", None), r"annotations\[4\].bbox: expected a list, got None"),
        (put("images", "width", "60"), r"images\[2\].width: expected a whole number, got '60'"),
        (put("images", "id", 10), r"images\[2\].id: expected every id once, got 10"),
        (
            put("images", "file_name", "0.png"),
            "images: expected every file_name once, without its folders, got '0.png'",
        ),
        (
            put("images", "file_name", "9.png"),
            "9.png: expected a picture, which .*boxes.json has in images, but there is",
        ),
        (put("categories", "name", "apple"), "categories: expected at least one, each with a name of its own"),
        (lambda found: found.pop("annotations"), "annotations: expected a list, as in COCO's files of instances"),
        (lambda found: found.update(categories=[]), "categories: expected at least one"),
        (lambda found: found.update(images=[7]), r"images\[0\]: expected a mapping, got 7"),
    ],
)
def test_entries_that_do_not_fit_are_refused_by_name(change: Change, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, ["0.png", "1.png", "2.png"]) / "boxes.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=said):
        OwnBoxes(tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pictures_of_every_split_are_measured_in_the_size_that_is_asked_for(split: Split, tmp_path: Path) -> None:
    write(tmp_path, [f"{number}.png" for number in range(6)])
    task = Detect(objects="own", normalisation=IMAGENET, test_sides=(30, 30))
    batches = list(batches_in_order(task, tmp_path, split, 1, multiple=1))
    assert {batch.sizes for batch in batches} == {((20, 30),)}
    assert batches[-1].objects[0].boxes.tolist() == [[2.5, 3.0, 12.75, 8.0], [25.0, 10.0, 30.0, 20.0]]


@pytest.mark.parametrize(("area", "size"), [(None, "medium"), (0, "medium"), (600.5, "small")])
def test_objects_are_small_or_large_by_their_area_in_their_pictures(
    area: float | None, size: str, tmp_path: Path
) -> None:
    write(tmp_path, [f"{number}.png" for number in range(6)])
    said = json.loads((tmp_path / "boxes.json").read_text())
    for entry in said["annotations"]:
        entry |= {"bbox": [4, 2, 52, 36], "area": area}
    (tmp_path / "boxes.json").write_text(json.dumps(said))
    task = Detect(objects="own", normalisation=IMAGENET, test_sides=(30, 30))
    counted = DetectionTally(task)
    for batch in batches_in_order(task, tmp_path, "train", 2, multiple=2):
        maps = torch.full((len(batch.names), 6, 10, 15), -9.0)
        maps[:, :2, 5, 7] = 9.0
        maps[:, 2:, 5, 7] = encode(torch.tensor([[2.0, 1.0, 28.0, 19.0]]), torch.tensor([[7.0, 5.0]]), 2)
        counted.add(maps, batch)
    found = counted.metrics()
    assert {name for name in found if name.startswith("ap_")} == {f"ap_{size}"}


@pytest.mark.parametrize(("crowd", "ap50"), [(True, 1.0), (False, 0.5)])
def test_detections_within_a_crowd_are_neither_right_nor_wrong(crowd: bool, ap50: float, tmp_path: Path) -> None:
    path = write(tmp_path / "train", ["0.png", "1.png"]) / "boxes.json"
    said = json.loads(path.read_text())
    single = {"id": 1, "image_id": 11, "category_id": 2, "bbox": [4, 2, 52, 36]}
    said["annotations"] = [single, {**single, "id": 2, "image_id": 10, "bbox": [0, 0, 60, 40], "iscrowd": 1}][
        : 1 + crowd
    ]
    path.write_text(json.dumps(said))
    counted = DetectionTally(Detect(objects="own", normalisation=IMAGENET, test_sides=(30, 30)))
    for batch in batches_in_order(counted.task, tmp_path, "train", 2, multiple=2):
        maps = torch.full((len(batch.names), 6, 10, 15), -9.0)
        maps[:, 0, 5, 7] = torch.tensor([9.0, 8.0])  # the surer one is where no single object is
        maps[:, 2:, 5, 7] = encode(torch.tensor([[2.0, 1.0, 28.0, 19.0]]), torch.tensor([[7.0, 5.0]]), 2)
        counted.add(maps, batch)
    assert counted.metrics()["ap50"] == pytest.approx(ap50)
    assert counted.by_class(["leaf", "apple"])[0]["objects"] == 1
    config = Evaluate(stop=StopConfig(max_steps=1), sweep=1, split="train")
    assert of_boxes(Boxes(), counted.task, config, tmp_path)["ap50"] == pytest.approx(ap50)  # one box in both pictures


def test_boxes_of_a_reduced_panorama_reach_as_far_as_its_rounded_height() -> None:
    whole = Objects.of([((0, 0, 4000, 20), 0, -1, False)])
    sample = fit(AnnotatedImage(torch.zeros(3, 20, 4000, dtype=torch.uint8), whole, "panorama"), (512, 512))
    assert sample.image.shape == (3, 3, 512)
    assert sample.objects.boxes.tolist() == [[0, 0, 512, 3]]


def test_pictures_and_files_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, ["0.png", "1.png", "2.png"])
    added = picture(tmp_path / "images/new.png", (9, 9, 9), 0)
    with pytest.raises(
        UserError, match=r"new.png: expected an entry in images of .*boxes.json, got none; add it, without"
    ):
        OwnBoxes(tmp_path)
    added.unlink()
    for number in range(3):
        picture(tmp_path / f"images/{number}.png", (9, 9, 9), 0, size=(HEIGHT, 50))
    with pytest.raises(
        UserError, match=r"png: expected 60x40 pixels as displayed, its width .* in .*boxes.json, got 50x40"
    ):
        OwnBoxes(tmp_path)[0]
    found = document(["0.png", "1.png", "2.png"])
    (tmp_path / "boxes.json").write_text(json.dumps({**found, "annotations": found["annotations"][:1]}))
    with pytest.raises(
        UserError, match=r"boxes.json: expected boxes in the pictures for train, got none in [12]; annotate"
    ):
        OwnBoxes(tmp_path)
    (tmp_path / "more.json").write_text("[]")
    with pytest.raises(
        UserError, match=r"expected one JSON file of boxes, got boxes.json, more.json; boxes are in one"
    ):
        OwnBoxes(tmp_path)
    with pytest.raises(UserError, match=r"categories: expected a list, .* got 'a file of list'"):
        read_coco(tmp_path / "more.json")
    (tmp_path / "more.json").write_text("{")
    with pytest.raises(UserError, match=r"more.json: expected a JSON file, got"):
        read_coco(tmp_path / "more.json")
