"""Streaming measured on a written mini set: both protocols, what the tables hold, and how videos are shown."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from benchmarks.stream import speed, tolerance
from tests.jobs import done
from tests.profiles import SMOKE
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.config import ConfigError, load, plain
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.tables import read_rows
from deq_vision import MDEQ, Detection, Segmentation, build, save
from deq_vision import load as load_model
from deq_vision.cli import main
from deq_vision.data.mini.write_street import MiniStreetConfig, write_street
from deq_vision.data.transforms import IMAGENET
from deq_vision.detection.decoding import Decoding, Detections
from deq_vision.detection.params import Detect
from deq_vision.detection.task import DetectionTally, as_truth, loss
from deq_vision.metrics import confusion, segmentation_metrics
from deq_vision.params import Segment
from deq_vision.streaming.evaluate import runs, show, summary_row
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.streaming.scores import SegmentationScores
from deq_vision.streaming.stream import StreamDEQ
from deq_vision.streaming.videos import SegmentedVideo, VideoFrame, annotated_videos, play, segmented_videos
from deq_vision.studies.section import Vision
from deq_vision.studies.streaming import STREAM, Streaming
from deq_vision.tasks import batches_in_order, samples
from deq_vision.windows import padded, pixel_classes

SEGMENT = Segment(labels="street", normalisation=IMAGENET)
DETECT = Detect(objects="street", normalisation=IMAGENET, decoding=Decoding(limit=5))
CONFIG = StreamEvaluate(
    budgets=(1, 2),
    converged=StopConfig(max_steps=6, tol=1e-3),
    adaptive={"adaptive": StopConfig(max_steps=6, tol=1e-2)},
    cut=4.0,
    before=3,
    after=1,
    settled=2,
    streams=2,
)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test videos of 30 frames, one for validation, two training frames."""
    root = tmp_path_factory.mktemp("street") / "set"
    write_street(
        root, MiniStreetConfig(height=32, width=64, train_streets=2, train_frames=1, val_streets=1, test_streets=2)
    )
    return root


def small(head: Segmentation | Detection) -> MDEQ:
    """Untrained; it contracts, since what varies with the state is small beside an offset."""
    model = build("mini-street", head=head, channels=(8, 16), expansion=2, solver=deq.FixedPointIteration())
    injected = model.cell.get_submodule("branches.0.norm2")
    for part in (model.cell.branches, model.cell.fuse):
        for norm in part.modules():
            if isinstance(norm, nn.GroupNorm) and norm is not injected:
                nn.init.constant_(norm.weight, 0.2)
                nn.init.normal_(norm.bias)
    return model.eval()


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    torch.manual_seed(0)
    save(folder / "model.safetensors", small(Segmentation(classes=8)))
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    save(folder / "model.safetensors", small(Detection(channels=8, classes=3)))
    return folder


@dataclass(frozen=True)
class Made:
    """A video whose frames say which they are."""

    name: str
    count: int
    height: int = 4
    annotated: int | None = None

    def __len__(self) -> int:
        return self.count

    def frame(self, index: int) -> VideoFrame[str]:
        image = torch.full((3, self.height, 4), index, dtype=torch.uint8)
        return VideoFrame(image, f"{self.name}{index}", (self.height, 4))


@pytest.mark.parametrize("streams", [1, 2, 3, 10])
def test_every_frame_is_shown_once_and_in_order(streams: int) -> None:
    videos = [Made("a", 3), Made("b", 1), Made("c", 0), Made("d", 4, height=8), Made("e", 2)]
    seen: dict[int, list[int]] = {}
    for together in play(videos, streams):
        assert len({one.video for one in together}) == len(together) <= streams
        assert len({one.frame.image.shape for one in together}) == 1
        for one in together:
            seen.setdefault(one.video, []).append(one.index)
            assert one.frame.known == f"{videos[one.video].name}{one.index}"
            assert one.last == (one.index + 1 == len(videos[one.video]))
    assert seen == {0: [0, 1, 2], 1: [0], 3: [0, 1, 2, 3], 4: [0, 1]}


def test_a_video_takes_the_place_of_one_that_ended() -> None:
    sizes = [len(together) for together in play([Made("a", 1), Made("b", 3), Made("c", 2)], 2)]
    assert sizes == [2, 2, 2]


def test_the_cityscapes_protocol(street: Path, segmenter: Path) -> None:
    metrics, job = done(STREAM, Streaming(task=SEGMENT, stream=CONFIG), data=street, model=segmenter)
    summary = job.tables["summary"]
    assert [(row["mode"], row["steps"]) for row in summary] == [
        ("converged", 6),
        ("warm", 1),
        ("cold", 1),
        ("warm", 2),
        ("cold", 2),
        ("adaptive", 6),
    ]
    assert {row["frames"] for row in summary} == {2 * 5}
    for row in summary:
        assert row["evaluations"] == row["steps"] or row["mode"] in ("converged", "adaptive")
        assert {"miou", "accuracy", "annotated_miou", "settled_miou", "residual", "evaluations"} <= row.keys()
    frames = job.tables["frames"]
    assert [row["frame"] for row in frames if (row["mode"], row["steps"]) == ("warm", 2)] == [0, 1, 2, 3, 4]
    at = {(row["mode"], row["steps"], row["frame"]): row for row in frames}
    assert at["warm", 2, 0]["miou"] == at["cold", 2, 0]["miou"], "the first frame begins at zeros in both"
    assert at["warm", 2, 4]["residual"] < at["cold", 2, 4]["residual"]  # pyright: ignore[reportOperatorIssue]
    assert at["warm", 1, 3]["miou"] == metrics["warm_1.annotated_miou"], "the fourth frame is the annotated one"
    assert len(job.tables["videos"]) == 2 * 6


def test_the_protocol_is_the_papers_loop(street: Path, segmenter: Path) -> None:
    """Snippet by snippet, without batches, labels of the annotated frame alone."""
    model = load_model(segmenter)
    config = replace(CONFIG, after=0)
    videos = segmented_videos(SEGMENT, config, street)
    matrix = torch.zeros(8, 8, dtype=torch.long)
    for video in videos:
        stream, logits = StreamDEQ(model, deq.Stop(2, None)), None
        for index in range(len(video)):
            image = padded(IMAGENET.apply(video.frame(index).image[None]), model.size.multiple)
            logits = stream(image).logits
        assert logits is not None
        known = video.frame(video.annotated or 0).known
        assert known is not None
        matrix += confusion(pixel_classes(logits, (32, 64))[0], known, 8)
    every = runs(model, SEGMENT, config)
    show(every, videos, IMAGENET, 2)
    row = summary_row(every[3], videos, config)
    assert (row["mode"], row["steps"]) == ("warm", 2)
    assert row["annotated_miou"] == pytest.approx(segmentation_metrics(matrix)["miou"], abs=1e-3)


def test_frames_without_labels_are_not_measured(street: Path, segmenter: Path, tmp_path: Path) -> None:
    """As in the release, which has labels of the annotated frame alone."""
    config = replace(CONFIG, adaptive={}, budgets=(1,))
    (video, _) = segmented_videos(SEGMENT, config, street)
    known = tuple(path if index == 3 else tmp_path / path.name for index, path in enumerate(video.snippet.known))
    every = runs(load_model(segmenter), SEGMENT, config)
    show(every, [SegmentedVideo(replace(video.snippet, known=known))], IMAGENET, 2)
    assert list(every[0].scores.frames) == [(0, 3)]
    assert sorted(every[0].costs.values) == [0, 1, 2, 3, 4]


def test_a_network_of_another_task_is_not_measured(street: Path, detector: Path) -> None:
    message = "expected a head for Segmentation with 8 classes, those of .* street, got Detection with 3"
    with pytest.raises(ConfigError, match=message):
        done(STREAM, Streaming(task=SEGMENT, stream=CONFIG), data=street, model=detector)


def test_the_vid_protocol(street: Path, detector: Path) -> None:
    config = replace(CONFIG, budgets=(1,), adaptive={})
    metrics, job = done(STREAM, Streaming(task=DETECT, stream=config), data=street, model=detector)
    assert {"warm_1.ap50", "warm_1.annotated_ap50", "cold_1.settled_ap50", "converged_6.evaluations"} <= metrics.keys()
    assert metrics["warm_1.ap50"] == pytest.approx(metrics["warm_1.annotated_ap50"]), "every frame of VID is annotated"
    frames = job.tables["frames"]
    assert [row["frame"] for row in frames if row["mode"] == "warm"] == list(range(30))
    assert {"ap50", "ap", "map50"} <= job.tables["summary"][0].keys()


def test_frames_are_tested_no_larger_than_asked_for(street: Path) -> None:
    task = replace(DETECT, test_sides=(32, 24))
    (video, _) = annotated_videos(task, CONFIG, street)
    (whole, _) = annotated_videos(DETECT, CONFIG, street)
    small_frame, frame = video.frame(20), whole.frame(20)
    assert small_frame.image.shape == (3, 16, 32)
    assert small_frame.known is not None
    assert frame.known is not None
    assert small_frame.known.boxes.equal(frame.known.boxes), "measured in the pixels of the picture"
    assert small_frame.size == frame.size == (32, 64)
    assert len(frame.known) > 0, "or nothing is tested"


def test_scores_of_parts_add_up(street: Path) -> None:
    videos = segmented_videos(SEGMENT, CONFIG, street)
    scores = SegmentationScores()
    (together, *_) = play(videos, 2)
    logits = torch.randn(2, 8, 8, 16)
    scores.add(logits, torch.zeros(2, 3, 32, 64), together)
    labels = torch.stack([one.frame.known for one in together if one.frame.known is not None])
    expected = segmentation_metrics(confusion(pixel_classes(logits, (32, 64)), labels, 8))
    assert scores.metrics([(0, 0), (1, 0)]) == expected
    assert scores.headline([(0, 0), (1, 0)]) == {"miou": expected["miou"]}
    assert scores.metrics([]) == {}


def test_a_perfect_detector_has_a_perfect_score(street: Path) -> None:
    tally = DetectionTally(DETECT)
    for batch in batches_in_order(DETECT, street, "val", 10, multiple=8):
        perfect = [Detections(o.boxes, torch.ones(len(o)), o.classes) for o in batch.objects]
        tally.add_found(perfect, [as_truth(one) for one in batch.objects])
    metrics = tally.metrics()
    assert tally.count == len(samples(DETECT, street, "val")) == 30
    assert metrics["ap50"] == metrics["ap"] == pytest.approx(1)


def random_maps(images: Tensor) -> Tensor:
    return torch.randn(len(images), 3 + 4, images.shape[2] // 4, images.shape[3] // 4)


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_the_loss_of_a_split_is_that_of_all_its_images_in_any_batches(batch_size: int, street: Path) -> None:
    (whole,) = batches_in_order(DETECT, street, "val", 30, multiple=8)
    assert len({len(objects) for objects in whole.objects}) > 1
    torch.manual_seed(0)
    maps = random_maps(whole.images)
    tally = DetectionTally(DETECT)
    for part, batch in zip(
        maps.split(batch_size), batches_in_order(DETECT, street, "val", batch_size, multiple=8), strict=True
    ):
        tally.add(part, batch)
    assert tally.metrics()["loss"] == pytest.approx(float(loss(DETECT, maps, whole)), rel=1e-5)


def test_the_evaluation_from_the_command_line(
    street: Path, segmenter: Path, tracking_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tracking_database.parent
    section = plain(load(Vision, SMOKE, "vision"))
    section["experiments"]["street"]["task"] = {**plain(SEGMENT), "folder": street.name}
    section["stream"]["street"] = plain(CONFIG)
    (folder / "params.yaml").write_text(json.dumps({"vision": section}))
    given = ["experiment=street", "seed=0", "--checkpoint", str(segmenter), "--data", str(street.parent)]
    main(["study", "stream", *given, "--out", str(folder / "out")])
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["warm_2.miou"] == pytest.approx(read_rows(folder / "out" / "summary.csv")[3]["miou"], abs=1e-6)


def test_the_benchmark_times_all_modes_on_the_same_frames(
    street: Path, segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(street), "--budgets", "1", "2", "--most", "4", "--before", "3", "--settled", "2"]
    speed.main([str(segmenter), *given, "--solver", "broyden", "--out", str(tmp_path / "speed.csv")])
    rows = read_rows(tmp_path / "speed.csv")
    assert [(row["mode"], row["steps"]) for row in rows] == [
        ("converged", 4),
        ("warm", 1),
        ("cold", 1),
        ("warm", 2),
        ("cold", 2),
    ]
    assert [row["evaluations"] for row in rows[1:]] == [1, 1, 2, 2]
    assert rows[0]["speed_up"] == 1
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 5
    assert printed[3].startswith("| warm | 1 | 1.0 |")


def test_a_looser_tolerance_takes_fewer_evaluations(
    street: Path, segmenter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tolerance.main([str(segmenter), "--data", str(street), "--videos", "1"])
    rows = [[cell.strip() for cell in line.split("|")[2:4]] for line in capsys.readouterr().out.splitlines()[2:]]
    fixed = {start: float(spent) for start, spent in rows if start.startswith("warm")}
    assert fixed == {"warm 1": 1, "warm 2": 2, "warm 3": 3, "warm 4": 4}
    spent = [float(count) for start, count in rows if start.startswith("to ")]
    assert len(spent) == len(tolerance.TOLERANCES)
    assert spent == sorted(spent, reverse=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budgets": ()}, "budgets"),
        ({"budgets": (2, 2)}, "budgets"),
        ({"streams": 0}, "streams"),
        ({"adaptive": {"x": StopConfig(max_steps=3)}}, r"adaptive\.x: needs a tol"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **wrong)  # pyright: ignore[reportArgumentType]
