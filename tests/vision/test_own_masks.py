"""Pictures of one's own with masks of any label list and palette."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.vision.test_own import picture

from deq_core.experiment.errors import UserError
from deq_vision import Segmentation
from deq_vision.cli import main
from deq_vision.data.batches import SegmentedBatch
from deq_vision.data.classes import CITYSCAPES
from deq_vision.data.registry import REGISTRY
from deq_vision.data.samples import IGNORE_INDEX, SegmentedImage
from deq_vision.data.sets.own.labels import labels_of
from deq_vision.data.sets.own.layout import layout_of
from deq_vision.data.sets.own.masks import OwnMasks
from deq_vision.data.sets.own.splits import Split
from deq_vision.data.transforms import IMAGENET
from deq_vision.params import Segment
from deq_vision.tally import ScoreTally
from deq_vision.tasks import batches_in_order, loss, predicted_classes, require_head

NUMBERS = np.array([[9, 9, 4], [255, 4, 9]], np.uint8).repeat(20, axis=0).repeat(20, axis=1)
CLASSES = np.select([NUMBERS == 9, NUMBERS == 4], [0, 1], IGNORE_INDEX)
COLOURS = {9: (120, 90, 40), 4: (30, 160, 40), 255: (0, 0, 0)}
BY_INDEX = "classes: [{name: soil, index: 9}, {name: leaf, index: 4, colour: [30, 160, 40]}]\nignore: [255]\n"
BY_COLOUR = "classes: [{name: soil, colour: [120, 90, 40]}, {name: leaf, colour: [30, 160, 40]}]\nignore: [[0, 0, 0]]\n"


def indexed(palette: bool = True) -> Image.Image:
    """The scene as a mask of numbers, with the palette of its colours or one that shows nothing."""
    mask = Image.frombytes("P", NUMBERS.shape[::-1], NUMBERS.tobytes())
    mask.putpalette(
        [value for index in range(256) for value in (COLOURS.get(index, (9, 9, 9)) if palette else (5, 5, 5))]
    )
    return mask


def grey() -> Image.Image:
    return Image.fromarray(NUMBERS)


def coloured() -> Image.Image:
    return indexed().convert("RGB")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six pictures with masks of numbers."""
    write(tmp_path, [str(number) for number in range(6)], indexed(), BY_INDEX)
    return tmp_path


def write(root: Path, names: list[str], mask: Image.Image, labels: str) -> None:
    for number, name in enumerate(names):
        image = picture(root / "images" / f"{name}.png", (120, 90, 40), number, size=NUMBERS.shape)
        (image.parents[1] / "masks").mkdir(exist_ok=True)
        mask.save(image.parents[1] / "masks" / f"{name}.png")
    (root / "labels.yaml").write_text(labels)


@pytest.mark.parametrize(
    ("mask", "labels"),
    [
        (grey(), BY_INDEX),
        (indexed(), BY_INDEX),
        (indexed(palette=False), BY_INDEX),
        (coloured(), BY_COLOUR),
        (coloured().convert("RGBA"), BY_COLOUR),
        (indexed(), BY_COLOUR),
    ],
)
def test_masks_of_numbers_and_of_colours_give_the_classes_of_the_label_list(
    mask: Image.Image, labels: str, tmp_path: Path
) -> None:
    write(tmp_path, ["a", "b"], mask, labels)
    assert layout_of(tmp_path) == "masks"
    assert OwnMasks(tmp_path)[0].labels.tolist() == CLASSES.tolist()
    found = labels_of(tmp_path).label_set()
    assert (found.names, found.colours[1]) == (("soil", "leaf"), COLOURS[4])
    assert found.ids == ((9, 4) if labels == BY_INDEX else (0, 1))


def test_pictures_are_held_out_as_those_of_classes_are_or_by_folders(root: Path, tmp_path: Path) -> None:
    train, val = ({path.name for path in OwnMasks(root, split).images} for split in ("train", "val"))
    assert train.isdisjoint(val)
    assert len(train | val) == 6
    for split in ("train", "val"):
        write(tmp_path / "split" / split, ["a", split], indexed(), BY_INDEX)
    (tmp_path / "split/labels.yaml").write_text(BY_INDEX)
    assert [path.stem for path in OwnMasks(tmp_path / "split", "val").images] == ["a", "val"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, r"labels.yaml: expected the classes of the masks, but there is no such file; write it, such as"),
        ("classes: [{name: a, index: 0}]", "classes: expected 2 to 255, got 1"),
        ("classes: [{name: a, index: 0}, {name: a, index: 1}]", "expected names, each once"),
        ("classes: [{name: a, index: 0}, {name: b}]", "expected an index for all or for none, got none for b"),
        ("classes: [{name: a}, {name: b}]", "expected an index or a colour for a, got neither"),
        ("classes: [{name: a, index: 0}, {name: b, index: 0}]", "every index or colour once, got 0 twice"),
        ("classes: [{name: a, index: 0}, {name: b, index: 256}]", "numbers from 0 to 255, got 256"),
        (BY_INDEX.replace("[255]", "[[0, 0, 0]]"), "ignore: expected numbers, as the classes have"),
        (BY_INDEX.replace("index: 9", "number: 9"), "classes.0..*number"),
        (BY_INDEX.replace("[255]", "[]"), r"got index 255 at row 20, column 0, of 400 unknown pixels; add it to"),
        (BY_COLOUR.replace("30, 160", "31, 160"), r"got colour \[30, 160, 40\] at row 0, column 40"),
    ],
)
def test_labels_that_do_not_fit_the_masks_are_refused_by_name(labels: str | None, said: str, root: Path) -> None:
    (root / "labels.yaml").unlink()
    if labels is not None:
        (root / "labels.yaml").write_text(labels)
    with pytest.raises(UserError, match=said):
        OwnMasks(root)[0]


def test_pictures_and_masks_that_do_not_fit_are_refused_by_name(root: Path) -> None:
    found = OwnMasks(root)
    mask = root / "masks" / found.images[0].name
    indexed().resize((30, 40)).save(mask)
    with pytest.raises(UserError, match=rf"{mask.name}: expected 60x40 pixels, as .* when displayed, got 30x40"):
        found[0]
    coloured().save(mask)
    with pytest.raises(
        UserError, match=rf"{mask.name}: expected a PNG with a number .* for each pixel, got one of mode RGB"
    ):
        found[0]
    mask.write_bytes(mask.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"{mask.name}: expected the end of a PNG file"):
        found[0]
    mask.unlink()
    with pytest.raises(
        UserError, match=rf"{mask.name}: expected the mask of a picture in images, but there is none; add"
    ):
        OwnMasks(root)
    for image in (root / "images").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"images: expected pictures .* for train, got none"):
        OwnMasks(root)
    (root / "images").rmdir()
    with pytest.raises(
        UserError, match="images: expected a folder of pictures, but there is none; pictures are in images"
    ):
        OwnMasks(root)


def png(bits: int, kind: int, row: bytes) -> bytes:
    """A PNG of one row of two pixels; of kind 0, grey, or 2, RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("labels", "mask", "said"),
    [
        pytest.param(BY_INDEX, png(8, 0, b"\4\x09"), None, id="8 bits"),
        pytest.param(BY_INDEX, png(4, 0, b"\x49"), "a grey PNG of 8 bits, .*, got a grey one of 4", id="4 bits"),
        pytest.param(BY_INDEX, png(2, 0, b"\x40"), "got a grey one of 2", id="2 bits"),
        pytest.param(BY_COLOUR, png(8, 2, bytes((*COLOURS[4], *COLOURS[9]))), None, id="colours"),
        pytest.param(BY_COLOUR, png(16, 2, bytes(12)), "8 bits a channel, got one of mode RGB with 16", id="16 bits"),
    ],
)
def test_a_mask_whose_numbers_a_reader_would_change_is_refused(
    labels: str, mask: bytes, said: str | None, tmp_path: Path
) -> None:
    (tmp_path / "labels.yaml").write_text(labels)
    (tmp_path / "mask.png").write_bytes(mask)
    if said is None:
        assert labels_of(tmp_path).read(tmp_path / "mask.png").tolist() == [[1, 0]]
        return
    with pytest.raises(UserError, match=f"mask.png: expected .*{said}; save it as such"):
        labels_of(tmp_path).read(tmp_path / "mask.png")


def test_every_mask_that_does_not_fit_is_named_before_one_trains(root: Path) -> None:
    assert REGISTRY.check("own", root) == []
    grey().resize((30, 40)).save(root / "masks/1.png")
    Image.fromarray(NUMBERS + 1).save(root / "masks/4.png")
    (root / "images/2.png").write_bytes(b"")
    found = sorted(str(problem).removeprefix(f"{root}/").partition(":")[0] for problem in REGISTRY.check("own", root))
    assert found == ["images/2.png", "masks/1.png", "masks/4.png"]
    (root / "labels.yaml").write_text("classes: []")
    assert "labels.yaml: the document: classes" in str(REGISTRY.check("own", root)[0])


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_are_measured_at_their_own_size_class_by_class(split: Split, root: Path) -> None:
    task = Segment(labels="own", normalisation=IMAGENET, test_sides=(32, 32))
    counted = ScoreTally(task)
    for batch in batches_in_order(task, root, split, 2, multiple=16):
        assert batch.images.shape[2:] == (32, 32), "21 rows, padded"
        assert batch.sizes[0] == (21, 32)
        logits = torch.zeros(len(batch.names), 2, 8, 8)
        logits[:, 0] = 1.0
        counted.add(logits, batch)
    known = OwnMasks(root, split)
    soil, leaf = (sum(int((known[place].labels == index).sum()) for place in range(len(known))) for index in (0, 1))
    assert counted.by_class(("soil", "leaf")) == [
        {"class": "soil", "iou": soil / (soil + leaf), "accuracy": 1.0, "pixels": soil},
        {"class": "leaf", "iou": 0.0, "accuracy": 0.0, "pixels": leaf},
    ]


def test_two_pictures_that_would_have_one_mask_are_refused(root: Path) -> None:
    picture(root / "images/3.jpg", (9, 9, 9), 0, size=NUMBERS.shape)
    for split in ("train", "val"):
        with pytest.raises(
            UserError, match=r"3\.png and 3\.jpg: two pictures, whose mask would be .*masks/3\.png; name"
        ):
            OwnMasks(root, split)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_pictures_is_the_mean_over_their_labelled_pixels_in_any_batches(
    weighted: bool, batch_size: int
) -> None:
    task = Segment(labels="cityscapes", class_weights=weighted, normalisation=IMAGENET)
    labels = torch.full((3, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    labels[0], labels[1, 0, 0] = 0, 1
    pictures = [SegmentedImage(torch.zeros(3, 4, 4, dtype=torch.uint8), one, "") for one in labels]
    counted, logits = ScoreTally(task), torch.tensor([0.0, 2.0, *[-100.0] * 17])
    for first in range(0, 3, batch_size):
        batch = SegmentedBatch.collate(pictures[first : first + batch_size], IMAGENET)
        counted.add(logits.reshape(1, -1, 1, 1).expand(len(batch.names), -1, 4, 4), batch)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    first, second = CITYSCAPES.weights[:2] if weighted else (1, 1)
    assert counted.metrics()["loss"] == pytest.approx((16 * first * wrong + second * right) / (16 * first + second))


def test_masks_without_a_pixel_of_a_class_are_refused_not_measured_as_0() -> None:
    counted = ScoreTally(Segment(labels="cityscapes", normalisation=IMAGENET))
    nothing = torch.full((4, 4), IGNORE_INDEX, dtype=torch.uint8)
    batch = SegmentedBatch.collate([SegmentedImage(torch.zeros(3, 4, 4, dtype=torch.uint8), nothing, "")], IMAGENET)
    counted.add(torch.zeros(1, 19, 4, 4), batch)
    with pytest.raises(UserError, match="got none: all of the 1 masks are ignored; measure another split"):
        counted.metrics()


def test_own_masks_are_trained_on_by_the_scores_that_they_are_measured_by() -> None:
    logits = 1e6 * torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = predicted_classes(logits, torch.empty(1, 24, 24))
    picture = SegmentedImage(torch.zeros(3, 24, 24, dtype=torch.uint8), labels[0].to(torch.uint8), "")
    batch = SegmentedBatch.collate([picture], IMAGENET)
    assert float(loss(Segment(labels="own", normalisation=IMAGENET), logits, batch)) == 0
    assert float(loss(Segment(labels="street", normalisation=IMAGENET), logits, batch)) > 0, "as released"


def test_a_network_is_not_measured_by_labels_that_it_does_not_know(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"expected one of the classes of .*, soil, leaf, got street, which knows road,"
    ):
        main(["evaluate", "street", "--data", str(root), "--out", str(tmp_path / "out")])
    task = Segment(labels="own", normalisation=IMAGENET)
    require_head(task, Segmentation(classes=2, names=("soil", "leaf")), root, "val")
    with pytest.raises(
        UserError, match=r"net: expected the classes of .*, soil, leaf, got leaf, soil; choose the folder"
    ):
        require_head(task, Segmentation(classes=2, names=("leaf", "soil")), root, "val", source="net")
