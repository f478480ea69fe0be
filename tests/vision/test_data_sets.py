"""CIFAR-10, ImageNet and Cityscapes: what their readers find, in which order, and what they say of other files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deq_core.experiment.data.images import FileFormatError, encode, write_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.files import write_bytes, write_text
from deq_vision.data.classes import CITYSCAPES, STREET, VID, LabelSet
from deq_vision.data.samples import IGNORE_INDEX
from deq_vision.data.sets import cifar
from deq_vision.data.sets.cifar import Cifar10
from deq_vision.data.sets.cityscapes import Cityscapes, CityscapesVideos
from deq_vision.data.sets.imagenet import ImageNet


def noise(seed: int, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


# CIFAR-10


def write_cifar(root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.stack([noise(index, 32, 32) for index in range(14)])
    labels = torch.arange(14) % 10
    folder = root / "cifar-10-batches-bin"
    for part in range(5):
        chosen = slice(2 * part, 2 * part + 2)
        cifar.write_records(folder / f"data_batch_{part + 1}.bin", images[chosen], labels[chosen])
    cifar.write_records(folder / "test_batch.bin", images[10:], labels[10:])
    write_text(folder / "batches.meta.txt", "\n".join(f"class {place}" for place in range(10)) + "\n\n")
    return images, labels


def test_cifar_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    images, labels = write_cifar(tmp_path)
    for split, start in (("train", 0), ("test", 10)):
        found = Cifar10(tmp_path, split)  # pyright: ignore[reportArgumentType]  # one of its literals
        assert len(found) == (10 if split == "train" else 4)
        for index in range(len(found)):
            assert torch.equal(found[index].image, images[start + index])
            assert found[index].label == labels[start + index]
    assert Cifar10(tmp_path)[3].name == "data_batch_2/00001"
    assert Cifar10(tmp_path).classes[9] == "class 9"
    with pytest.raises(IndexError):
        Cifar10(tmp_path)[10]


def test_a_record_of_cifar_is_the_label_then_rows_of_red_green_and_blue(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    record = bytes([7]) + bytes(range(256)) * 4 + bytes([1]) * 1024 + bytes([2]) * 1024
    write_bytes(tmp_path / "cifar-10-batches-bin/test_batch.bin", record)
    sample = Cifar10(tmp_path, "test")[0]
    assert sample.label == 7
    assert sample.image[0, 1, :3].tolist() == [32, 33, 34]
    assert sample.image[1:].unique().tolist() == [1, 2]


def test_cifar_says_what_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"cifar-10-batches-bin: .* fetch it with `deq-vision download cifar10`"):
        Cifar10(tmp_path)
    write_cifar(tmp_path)
    folder = tmp_path / "cifar-10-batches-bin"
    with pytest.raises(LayoutError, match=r"val_batch\.bin: CIFAR-10 as released has no validation split"):
        Cifar10(tmp_path, "val")
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], r"data_batch_3\.bin: expected records of 3073 bytes, got 6145"),
        (b"", "got 0 bytes"),
        (b"\x0a" + whole[1:], r"data_batch_3\.bin: expected labels from 0 to 9, got 10"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=message):
            Cifar10(tmp_path)
    path.unlink()
    with pytest.raises(LayoutError, match=r"1 files are missing .*data_batch_3\.bin"):
        Cifar10(tmp_path)
    (folder / "batches.meta.txt").write_text("cat\n")
    with pytest.raises(FileFormatError, match=r"batches\.meta\.txt: expected 10 names, one a line, got 1"):
        Cifar10(tmp_path, "test")


def test_records_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels must be from 0 to 9"):
        cifar.write_records(tmp_path / "a.bin", torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.tensor([10]))
    with pytest.raises(ValueError, match="expected as many labels as uint8 images"):
        cifar.write_records(tmp_path / "a.bin", torch.zeros(1, 3, 32, 32), torch.tensor([1]))


# ImageNet


def test_imagenet_numbers_its_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for synset, count in (("n01443537", 1), ("n01440764", 2)):
        for index in range(count):
            path = tmp_path / "imagenet/train" / synset / f"{synset}_{index}.JPEG"
            encode(path, noise(index, 20, 30).permute(1, 2, 0).numpy())
    (tmp_path / "imagenet/train/notes.txt").write_text("not a class")
    found = ImageNet(tmp_path)
    assert [(found[index].label, found[index].name) for index in range(3)] == [
        (0, "n01440764/n01440764_0"),
        (0, "n01440764/n01440764_1"),
        (1, "n01443537/n01443537_0"),
    ]
    assert found[2].image.shape == (3, 20, 30)


def test_imagenet_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"imagenet/val: expected folders of classes, but there is none; unpack"):
        ImageNet(tmp_path, "val")
    (tmp_path / "imagenet/val").mkdir(parents=True)
    with pytest.raises(LayoutError, match="expected folders such as n01440764"):
        ImageNet(tmp_path, "val")
    (tmp_path / "imagenet/val/n01440764").mkdir()
    with pytest.raises(LayoutError, match=r"n01440764: expected images \(\*\.JPEG\), but the folder holds none"):
        ImageNet(tmp_path, "val")


def test_a_class_that_one_split_of_imagenet_lacks_would_renumber_the_others(tmp_path: Path) -> None:
    for place in ("train/n01440764", "train/n01443537", "val/n01443537"):
        path = tmp_path / "imagenet" / place / f"{Path(place).name}_0.JPEG"
        encode(path, noise(0, 20, 30).permute(1, 2, 0).numpy())
    with pytest.raises(
        LayoutError, match=r"imagenet/val: expected the classes of .*train.* lacks 1 of them: n01440764;"
    ):
        ImageNet(tmp_path, "val")
    assert len(ImageNet(tmp_path, "train")) == 2


# Cityscapes


def write_cityscapes(root: Path, *, videos: bool = True) -> None:
    """Two annotated frames of one long sequence, as frankfurt has them, with every label id once."""
    ids = np.arange(48, dtype=np.uint8).reshape(6, 8)
    ids[5, 7] = 255
    for middle in (294, 576):
        stem = f"frankfurt_000000_{middle:06d}"
        base = root / "cityscapes"
        write_image(base / f"leftImg8bit/val/frankfurt/{stem}_leftImg8bit.png", noise(middle))
        encode(base / f"gtFine/val/frankfurt/{stem}_gtFine_labelIds.png", ids)
        for frame in range(middle - 19, middle + 11) if videos else ():
            path = base / f"leftImg8bit_sequence/val/frankfurt/frankfurt_000000_{frame:06d}_leftImg8bit.png"
            write_image(path, noise(frame))


def test_label_ids_become_the_classes_of_the_benchmark(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, videos=False)
    sample = Cityscapes(tmp_path, "val")[0]
    assert sample.name == "frankfurt_000000_000294"
    assert torch.equal(sample.image, noise(294))
    expected = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12}
    expected |= {26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    found = sample.labels.flatten().tolist()
    assert found[:47] == [expected.get(label, IGNORE_INDEX) for label in range(47)]
    assert found[47] == IGNORE_INDEX


def test_classes_go_back_to_their_ids() -> None:
    classes = torch.tensor([[0, 18, IGNORE_INDEX]], dtype=torch.uint8)
    assert CITYSCAPES.label_ids(classes).tolist() == [[7, 33, 0]]
    assert [CITYSCAPES.colours[index] for index in (0, 18)] == [(128, 64, 128), (119, 11, 32)]
    everything = torch.arange(19, dtype=torch.uint8)[None]
    assert torch.equal(CITYSCAPES.indices(CITYSCAPES.label_ids(everything)), everything)
    assert len(set(CITYSCAPES.colours)) == len(CITYSCAPES) == len(CITYSCAPES.weights) == 19
    assert [CITYSCAPES.names[CITYSCAPES.ids.index(label)] for label in STREET.ids] == list(STREET.names)
    assert len(VID) == 30
    with pytest.raises(ValueError, match="as many names, ids, colours and weights"):
        LabelSet(names=("a",), ids=(1, 2), colours=((0, 0, 0),))


def test_a_video_is_the_thirty_frames_around_the_annotated_one(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    videos = CityscapesVideos(tmp_path, "val", after=10)
    assert [len(video) for video in videos] == [30, 30]
    assert torch.equal(videos[1].image(0), noise(576 - 19))
    assert torch.equal(videos[1].image(29), noise(576 + 10))
    assert videos[1].name == "frankfurt_000000_000576"
    assert videos[1].segmented(18) is None
    annotated = videos[1].segmented(videos[1].annotated)
    assert annotated is not None
    assert torch.equal(annotated.image, noise(576))
    short = CityscapesVideos(tmp_path, "val", before=2)[0]
    assert (len(short), short.annotated) == (3, 2)
    assert torch.equal(short.image(2), noise(294))


def test_cityscapes_says_what_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"leftImg8bit/val: .*unpack leftImg8bit_trainvaltest\.zip"):
        Cityscapes(tmp_path, "val")
    write_cityscapes(tmp_path, videos=False)
    with pytest.raises(LayoutError, match="leftImg8bit_sequence/val: expected the frames of videos"):
        CityscapesVideos(tmp_path, "val")
    write_cityscapes(tmp_path)
    frames = tmp_path / "cityscapes/leftImg8bit_sequence/val/frankfurt"
    (frames / "frankfurt_000000_000580_leftImg8bit.png").unlink()
    assert len(CityscapesVideos(tmp_path, "val")) == 2  # nobody asked for that frame
    with pytest.raises(LayoutError, match=r"1 files are missing .*sequence_trainvaltest.*000580_leftImg8bit\.png"):
        CityscapesVideos(tmp_path, "val", after=10)
    labels = tmp_path / "cityscapes/gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png"
    encode(labels, np.zeros((6, 7), np.uint8))
    with pytest.raises(FileFormatError, match=r"labelIds\.png: expected 8x6 pixels, the size of its image, got 7x6"):
        Cityscapes(tmp_path, "val")[0]
    encode(labels, np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(FileFormatError, match="expected an 8-bit image of one channel"):
        Cityscapes(tmp_path, "val")[0]
    labels.unlink()
    with pytest.raises(LayoutError, match="1 files are missing"):
        Cityscapes(tmp_path, "val")
    with pytest.raises(ValueError, match="before the annotated one and 0 to 10 after, got 20, 0"):
        CityscapesVideos(tmp_path, "val", before=20)


def test_names_of_classes_that_are_no_text_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "batches.meta.txt"
    path.write_bytes(b"\xff\n" * 10)
    with pytest.raises(FileFormatError, match=r"batches\.meta\.txt: expected UTF-8 text"):
        cifar.read_names(path)
