"""Images and videos with what a network sees in them."""

import csv
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.vision.pictures import HEADS, HEIGHT, WIDTH, as_frames, network, scene, viewer
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.images import FileFormatError, read_image, write_image
from deq_core.experiment.files import OutputError
from deq_core.experiment.media import video, video_file
from deq_core.experiment.media.video import Frames
from deq_vision import build
from deq_vision.data.classes import CITYSCAPES, STREET, palette
from deq_vision.data.transforms import CIFAR, IMAGENET
from deq_vision.demo.images import images_of, run
from deq_vision.demo.label_space import label_space_of
from deq_vision.demo.overlay import with_boxes, with_caption, with_classes, with_legend
from deq_vision.demo.video import CUT, StreamConfig, run_video, write_stream
from deq_vision.detection.decoding import Detections
from deq_vision.models import shipped
from deq_vision.streaming.stream import StreamDEQ


def test_a_subject_is_known_from_the_head() -> None:
    assert label_space_of(network("segment")).names == STREET.names
    assert label_space_of(network("detect")).names == ("person", "car", "bus")
    digits = label_space_of(network("classify"))
    assert (digits.normalisation, digits.crop, digits.names[3]) == (CIFAR, (32, 32), "class 3")
    city = label_space_of(build("cityscapes-small"))
    assert (city.task, city.colours, city.normalisation) == ("segment", CITYSCAPES.colours, IMAGENET)
    unknown = label_space_of(build("mini-street", classes=5))
    assert (len(unknown.names), len(set(unknown.colours))) == (5, 5)
    with pytest.raises(ConfigError, match="features only"):
        label_space_of(build("mini-video"))


def test_names_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij") + "\n\n")
    assert label_space_of(network("classify"), names=tmp_path / "names.txt").names == tuple("abcdefghij")
    with pytest.raises(ConfigError, match="expected 8 names, one a line, got 10"):
        label_space_of(network("segment"), names=tmp_path / "names.txt")


def test_classes_are_seen_through() -> None:
    image = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    drawn = with_classes(image, torch.tensor([[0, 1], [1, 0]]), [(200, 0, 0), (0, 100, 50)])
    assert drawn[:, 0, 0].tolist() == [150, 50, 50]
    assert drawn[:, 0, 1].tolist() == [50, 100, 75]


@pytest.mark.parametrize("width", [60, 700])
def test_a_legend_has_every_colour_and_is_as_high_for_other_texts_of_a_video(width: int) -> None:
    image, colours = torch.zeros(3, 40, width, dtype=torch.uint8), palette(30)
    for names in ([f"class {index}" for index in range(30)], ["x" * 300] * 30):
        shown = with_legend(image, names, colours)
        strip = shown[:, 40 * shown.shape[2] // width :].flatten(1).unique(dim=1).T.tolist()
        assert set(colours) <= set(map(tuple, strip))
    best = [
        with_legend(image, texts, colours[:2], widest=["oak 0.00", "a plane 0.00"])
        for texts in (["oak"] * 2, ["a"] * 2)
    ]
    assert best[0].shape == best[1].shape


def test_boxes_are_drawn_where_they_are() -> None:
    image = torch.zeros(3, 500, 600, dtype=torch.uint8)
    found = Detections(torch.tensor([[100.0, 200, 300, 400]]), torch.tensor([0.9]), torch.tensor([1]))
    drawn = with_boxes(image, found, ("a", "b"), [(9, 9, 9), (10, 20, 30)])
    assert drawn[:, 300, 100].tolist() == [10, 20, 30], "its left edge"
    assert drawn[:, 399, 200].tolist() == [10, 20, 30], "its lower edge"
    assert drawn[:, 300, 200].sum() == drawn[:, 300, 350].sum() == 0, "neither within nor beside it"
    assert image.sum() == 0, "the image itself stays"


def test_small_images_are_enlarged_until_text_can_be_read() -> None:
    assert with_caption(torch.zeros(3, 64, 128, dtype=torch.uint8), "text").shape[2] == 4 * 128
    large = torch.zeros(3, 300, 700, dtype=torch.uint8)
    captioned = with_caption(large, "x" * 300)
    assert captioned.shape[2] == 700
    assert captioned.shape[1] > 300
    assert captioned[:, 300:].max() > 100, "there is text, which fits"
    assert captioned[:, 300:, -3:].max() == 0


def test_a_palette_has_no_colour_twice() -> None:
    assert len(set(palette(40))) == 40


@pytest.mark.parametrize("task", HEADS)
def test_a_video_becomes_a_video(task: str, tmp_path: Path) -> None:
    pictures = scene(6)
    video_file.write(tmp_path / "in.mkv", pictures, 12.0)
    source, out, raw = video.frames(tmp_path / "in.mkv"), tmp_path / "o" / "out.mkv", tmp_path / "raw"
    values = write_stream(viewer(task), source, StreamConfig(steps=1), out=out, raw=raw)
    assert (values["frames"], values["cold"]) == (6, 1)
    assert values["evaluations"] == (5 + 5 * 1) / 6, "the first frame has the model's own"
    written = video.frames(tmp_path / "o" / "out.mkv")
    assert (written.count, written.fps) == (6, 12.0)
    assert next(iter(written)).shape[2] == 10 * WIDTH
    if task == "classify":
        assert [line[:6] for line in (raw / "scores.csv").read_text().splitlines()[1:]] == [
            f"00000{n}" for n in range(1, 7)
        ]
    else:
        files = sorted(path.stem for folder in ("masks", "boxes") for path in (raw / folder).glob("*"))
        assert files == [f"00000{n}" for n in range(1, 7)]


def test_a_video_with_fewer_frames_than_it_announces_is_remarked_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Frames("whole.avi", None, 3, lambda: iter(scene(3)))
    write_stream(viewer(), whole, StreamConfig(), out=tmp_path / "out.mkv")
    write_stream(viewer(), replace(whole, count=6), StreamConfig(frames=3), out=tmp_path / "out.mkv")
    assert "damaged" not in capsys.readouterr().err
    write_stream(viewer(), replace(whole, name="cut.avi", count=6), StreamConfig(), out=tmp_path / "out.mkv")
    assert "cut.avi: expected 6 frames, of which 3 could be decoded: it may be damaged" in capsys.readouterr().err


def test_a_folder_of_the_users_is_no_place_for_raw_outputs(tmp_path: Path) -> None:
    video_file.write(tmp_path / "in.mkv", scene(2), 12.0)
    mine = tmp_path / "raw" / "mine"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write .*raw"):
        write_stream(
            viewer("segment"),
            video.frames(tmp_path / "in.mkv"),
            StreamConfig(steps=1),
            out=tmp_path / "out.mkv",
            raw=mine.parent,
        )
    assert mine.read_text() == "mine"
    assert not (tmp_path / "out.mkv").exists()


def test_what_is_drawn_is_what_the_stream_gives(tmp_path: Path) -> None:
    look, config = viewer(), StreamConfig(steps=2)
    write_stream(look, as_frames(scene(4)), config, out=tmp_path / "out.mkv")
    stream = StreamDEQ(look.model, deq.Stop(2, None), first=deq.Stop(5, None), cut=CUT)
    for frame, shown in zip(scene(4), video.frames(tmp_path / "out.mkv"), strict=True):
        images = look.prepare(frame)
        logits = stream(images).logits
        assert logits is not None
        assert torch.equal(shown[:, : 10 * HEIGHT : 10, ::10], look.draw(logits, images, frame))


def test_a_stream_of_the_other_modes() -> None:
    look = viewer()
    cold = list(run_video(StreamConfig(steps=3, warm=False).stream(look.model), look, scene(3)))
    assert [int(one.output.evaluations) for one in cold] == [3, 3, 3]
    assert all(one.output.cold for one in cold)
    adaptive = StreamConfig(steps=4, tolerance=10.0).stream(look.model)
    assert [int(one.output.evaluations) for one in run_video(adaptive, look, scene(3))] == [5, 1, 1]


def test_frames_of_a_long_video_do_not_pile_up(tmp_path: Path) -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def long() -> Iterator[Tensor]:
        nonlocal most
        for time in range(30):
            frame = torch.full((3, 16, 16), time, dtype=torch.uint8)
            alive.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in alive))
            yield frame

    write_stream(viewer(), Frames("long", None, None, long), StreamConfig(steps=1), out=tmp_path / "out.mp4")
    assert len(alive) == 30
    assert most <= 3


def test_an_interrupt_keeps_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(count: int) -> Iterator[Tensor]:
        yield from scene(count)
        raise KeyboardInterrupt

    frames = Frames("camera 0", None, None, lambda: interrupted(3))
    with pytest.raises(KeyboardInterrupt):
        write_stream(viewer(), frames, StreamConfig(), out=tmp_path / "out.mp4")
    assert f"camera 0: ended early; its first 3 frames are in {tmp_path / 'out.mp4'}\n" in capsys.readouterr().err
    assert len(list(video.frames(tmp_path / "out.mp4"))) == 3
    with pytest.raises(KeyboardInterrupt):
        write_stream(
            viewer(), Frames("x", None, None, lambda: interrupted(0)), StreamConfig(), out=tmp_path / "none.mp4"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_an_interrupt_keeps_the_images_that_were_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path, *, upright: bool) -> Tensor:
        if path.name == "c.png":
            raise KeyboardInterrupt
        return scene(1)[0]

    monkeypatch.setattr("deq_vision.demo.images.read_image", read)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(viewer(), [Path("a.png"), Path("b.png"), Path("c.png"), Path("d.png")], out=out)
    assert f"ended early; what was seen of the first 2 images is in {out}" in capsys.readouterr().err
    assert [one["image"] for one in json.loads((out / "demo.json").read_text())["images"]] == ["a.png", "b.png"]
    assert sorted(path.name for path in out.glob("*.png")) == ["a.png.png", "b.png.png"]


@pytest.mark.parametrize("side", [None, 24])
def test_results_have_the_size_of_the_frame(side: int | None) -> None:
    frame = scene(1)[0]
    for task in ("segment", "detect"):
        look = viewer(task, side=side, least_score=0.0)
        images = look.prepare(frame)
        assert all(length % 8 == 0 for length in images.shape[2:])
        assert (max(images.shape[2:]) <= 24) == (side is not None)
        logits = look.model(images).logits.detach()
        if task == "segment":
            assert look.classes(logits, images, frame).shape == (HEIGHT, WIDTH)
        else:
            boxes = look.detections(logits, images, frame).boxes
            assert (boxes <= torch.tensor([WIDTH, HEIGHT] * 2) + 1e-3).all()
            assert boxes[:, 2].max() > WIDTH / 2


def test_boxes_are_in_the_pixels_of_the_frame_along_both_of_its_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    look, frame = viewer("detect", side=100), torch.zeros(3, 45, 1000, dtype=torch.uint8)  # of which it sees 4x100
    whole = Detections(torch.tensor([[0.0, 0, 100, 4]]), torch.ones(1), torch.zeros(1, dtype=torch.long))
    monkeypatch.setattr("deq_vision.demo.viewer.detect", lambda *_: [whole])
    images = look.prepare(frame)
    assert look.detections(images[:, :, ::8, ::8], images, frame).boxes.tolist() == [[0, 0, 1000, 45]]


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ({"side": 0}, "side: expected at least 16 pixels, got 0"),
        ({"side": -5}, "side: expected at least 16 pixels, got -5"),
        ({"least_score": 1.5}, "least_score: expected a number from 0 to 1, got 1.5"),
        ({"least_score": float("nan")}, "least_score: expected a number from 0 to 1, got nan"),
    ],
)
def test_numbers_that_show_nothing_are_refused(choice: dict[str, float], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        viewer("detect", **choice)


def test_a_classifier_has_a_size_of_its_own_and_takes_no_side() -> None:
    assert shipped.chosen(None, "classify", None) == ("digits", None)
    with pytest.raises(
        ConfigError, match="side: expected none, since a classifier sees the middle of an image, got 64"
    ):
        viewer("classify", side=64)


def test_images_become_pictures_and_numbers(tmp_path: Path) -> None:
    for number, frame in enumerate(scene(2)):
        write_image(tmp_path / "in" / f"{number}.png", frame)
    for task in HEADS:
        look = viewer(task, least_score=0.05)
        values = run(look, images_of(tmp_path / "in"), out=tmp_path / task, name="small")
        assert (values["images"], values["evaluations"]) == (2, 5)
        summary = json.loads((tmp_path / task / "demo.json").read_text())
        assert (summary["task"], len(summary["images"])) == (task, 2)
        first = summary["images"][0]
        frame = scene(1)[0]
        seen = look.prepare(frame), frame
        logits = look.model(seen[0]).logits.detach()
        picture = read_image(tmp_path / task / "0.png.png")
        assert torch.equal(picture, look.picture(logits, *seen))
        assert picture.shape[1] > 10 * HEIGHT, "there is a legend"
        if task == "classify":
            expected = logits[0].softmax(0)
            assert first["classes"][0]["class"] == f"class {int(expected.argmax())}"
            assert first["classes"][0]["probability"] == pytest.approx(expected.max().item(), rel=1e-5)
            rows = list(csv.DictReader((tmp_path / task / "scores.csv").read_text().splitlines()))
            assert [row["image"] for row in rows] == ["0", "1"]
            assert [float(rows[0][name]) for name in look.label_space.names] == pytest.approx(
                expected.tolist(), abs=1e-6
            )
        if task == "segment":
            assert sum(first["shares"].values()) == pytest.approx(1)
            mask, classes = Image.open(tmp_path / task / "masks/0.png"), look.classes(logits, *seen)
            assert np.asarray(mask).tolist() == STREET.label_ids(classes).tolist()
            assert np.asarray(mask.convert("RGB")).tolist() == np.array(STREET.colours)[classes].tolist()
        if task == "detect":
            assert first["boxes"] == sorted(first["boxes"], key=lambda box: -box["score"])
            assert set(first["boxes"][0]) == {"class", "score", "box"}
            (result, *_) = json.loads((tmp_path / task / "boxes/0.json").read_text())
            left, top, right, bottom = first["boxes"][0]["box"]
            assert result["bbox"] == pytest.approx([left, top, right - left, bottom - top])
            labels = {each["id"]: each["name"] for each in json.loads((tmp_path / task / "labels.json").read_text())}
            assert (labels[result["category_id"]], result["image_id"]) == (first["boxes"][0]["class"], 1)


def test_a_damaged_image_leaves_the_earlier_output_and_what_was_seen_before_it_beside(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", scene(1)[0])
    run(viewer(), [tmp_path / "a.png"], out=tmp_path / "out")
    (tmp_path / "b.png").write_bytes(b"damaged")
    with pytest.raises(FileFormatError, match=r"b\.png: expected .*; what was measured before it is in .*out-partial$"):
        run(viewer(), [tmp_path / "a.png", tmp_path / "a.png", tmp_path / "b.png"], out=tmp_path / "out")
    for folder, count in (("out", 1), ("out-partial", 2)):
        assert (tmp_path / folder / "a.png.png").is_file()
        assert len(json.loads((tmp_path / folder / "demo.json").read_text())["images"]) == count


def test_a_damaged_frame_of_a_stream_keeps_those_before_it(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "1.png", scene(1)[0])
    (tmp_path / "in" / "2.png").write_bytes(b"damaged")
    with pytest.raises(FileFormatError, match=r"2\.png: expected .*; the 1 frames before it are in .*out\.mkv$"):
        write_stream(viewer(), video.frames(tmp_path / "in"), StreamConfig(), out=tmp_path / "out.mkv")
    assert len(list(video.frames(tmp_path / "out.mkv"))) == 1


def test_a_folder_of_anything_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"holds thesis\.tex, which this program did not write"):
        run(viewer(), [], out=tmp_path)
