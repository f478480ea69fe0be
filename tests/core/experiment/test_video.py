"""Frames come back as they were written, one at a time, and whatever cannot be read or written is said."""

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from tests.core.experiment.test_files import file_size_limit
from torch import Tensor

from deq_core.experiment.data.images import FileFormatError, write_image
from deq_core.experiment.files import OutputError
from deq_core.experiment.media import video, video_file
from deq_core.experiment.media.video import VideoError


def moving(count: int, height: int = 48, width: int = 64) -> list[Tensor]:
    """Smooth colours that move to the right."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    shades = [torch.stack([x + 2 * time, y, 128 + (x - y) // 2]) for time in range(count)]
    return [shade.clamp(0, 255).to(torch.uint8) for shade in shades]


@pytest.mark.parametrize("fps", [10.0, 24000 / 1001, 25.0])
@pytest.mark.parametrize("count", [1, 2, 13])
def test_a_lossless_video_gives_back_its_frames(tmp_path: Path, fps: float, count: int) -> None:
    pictures = moving(count)
    assert video_file.write(tmp_path / "a.mkv", pictures, fps) == count
    read = video.frames(tmp_path / "a.mkv")
    assert read.count == count
    assert read.fps == pytest.approx(fps, rel=1e-3)
    assert torch.equal(torch.stack(list(read)), torch.stack(pictures))
    assert torch.equal(next(iter(read)), pictures[0]), "a second reading starts anew"


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_lossy_video_gives_back_nearly_its_frames(tmp_path: Path, suffix: str) -> None:
    pictures = moving(8)
    video_file.write(tmp_path / f"a{suffix}", pictures, 25.0)
    back = torch.stack(list(video.frames(tmp_path / f"a{suffix}"))).float()
    assert (back - torch.stack(pictures)).abs().mean() < 3


@pytest.mark.parametrize("fps", [0.002, 0.5, 60000 / 1001, 200 / 3, 250 / 3, 1000 / 3, 959.04, 1000.0])
def test_a_video_of_any_speed_can_be_written(tmp_path: Path, fps: float) -> None:
    video_file.write(tmp_path / "a.mp4", moving(3), fps)
    read = video.frames(tmp_path / "a.mp4")
    assert read.fps is None if fps == 1000.0 else read.fps == pytest.approx(fps, rel=1e-4)
    assert len(list(read)) == read.count == 3


@pytest.mark.parametrize("fps", [0.0, 0.001, 1e9, float("inf"), float("nan")])
def test_a_speed_that_no_video_has_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(VideoError, match=r"expected from 0\.002 to 1000 frames per second"):
        video_file.write(tmp_path / "a.mp4", moving(1), fps)


@pytest.mark.parametrize("name", ["10:30.mp4", "file:x.mp4", "a b.mp4", "-x.mp4", "x%03d.mp4", "é.MP4", "take:1/a.mp4"])
def test_a_video_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    video_file.write(Path(name), moving(3))
    assert len(list(video.frames(Path(name)))) == 3
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name], "and nothing else is there"


def test_odd_sides_are_extended_by_their_last_line(tmp_path: Path) -> None:
    pictures = moving(2, 17, 23)
    video_file.write(tmp_path / "a.mkv", pictures)
    (first, _) = video.frames(tmp_path / "a.mkv")
    assert first.shape == (3, 18, 24)
    assert torch.equal(first[:, :17, :23], pictures[0])
    assert torch.equal(first[:, 17], first[:, 16])
    assert torch.equal(first[:, :, 23], first[:, :, 22])


def test_the_frames_of_a_folder_are_sorted_by_number_and_what_is_none_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = moving(12)
    for number, picture in enumerate(pictures):
        write_image(tmp_path / f"frame_{number}.png", picture)
    (tmp_path / ".hidden.png").write_bytes(b"not an image")
    (tmp_path / "notes.txt").write_text("not a frame")
    read = video.frames(tmp_path)
    assert capsys.readouterr().err == ""
    for name in ("10.HEIC", "9.heic"):
        (tmp_path / name).touch()
    read = video.frames(tmp_path)
    assert "left out 2 images of formats that are not read, such as 9.heic; convert" in capsys.readouterr().err
    assert (read.count, read.fps) == (12, None)
    assert torch.equal(torch.stack(list(read)), torch.stack(pictures))


def test_listed_images_keep_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / "b.png", tmp_path / "a.ppm"]
    for path, picture in zip(paths, moving(2), strict=True):
        write_image(path, picture)
    assert torch.equal(torch.stack(list(video.frames(paths))), torch.stack(moving(2)))


def test_frames_are_read_and_written_one_at_a_time(tmp_path: Path) -> None:
    video_file.write(tmp_path / "a.mkv", moving(40))
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def watched(pictures: video.Frames):
        nonlocal most
        for picture in pictures:
            alive.append(weakref.ref(picture))
            most = max(most, sum(one() is not None for one in alive))
            yield picture

    assert video_file.write(tmp_path / "b.mkv", watched(video.frames(tmp_path / "a.mkv"))) == 40
    assert most <= 2, "the frame before lives until the next has been read"


def test_a_damaged_frame_is_met_when_its_turn_comes(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", moving(1)[0])
    (tmp_path / "2.png").write_bytes(b"cut short")
    read = iter(video.frames(tmp_path))
    next(read)
    with pytest.raises(FileFormatError, match=r"2\.png"):
        next(read)


def test_frames_of_different_sizes_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", moving(1)[0])
    write_image(tmp_path / "7.png", moving(1, 40, 64)[0])
    with pytest.raises(VideoError, match=r"frame 2 \(7\.png\) has 64x40 pixels and the first 64x48"):
        list(video.frames(tmp_path))


def unreadable(root: Path) -> list[tuple[video.Source, str]]:
    """Sources that are none, and what the error says."""
    (root / "text.mp4").write_text("not a video")
    (root / "empty.avi").touch()
    (root / "empty").mkdir()
    write_image(root / "2.png", moving(1)[0])
    for name in ("twice", "lost"):
        (root / name).mkdir()
        write_image(root / name / "1.png", moving(1)[0])
    (root / "twice" / "1.jpg").write_bytes((root / "2.png").read_bytes())
    (root / "lost" / "2.png").symlink_to(root / "removed.png")
    latin = root / os.fsdecode(b"caf\xe9.mp4")
    latin.touch()
    os.mkfifo(root / "pipe.mp4")
    return [
        (latin, r"expected a path in UTF-8, got b'.*caf\\xe9\.mp4'; rename it"),
        (root / "pipe.mp4", "expected a file or folder, got a pipe, which is read once; write a file first"),
        (root / "missing.mp4", "no such file or folder"),
        (root / "text.mp4", "cannot open it as a video; copy it again if it may be damaged, or convert"),
        (root / "empty.avi", "cannot open it as a video"),
        (root / "empty", "expected images"),
        (root / "twice", r"1\.jpg and 1\.png: two images of one name, so one frame twice; remove one"),
        (root / "lost", r"2\.png: a link that leads nowhere \(1 of 2 images\); mend or remove it"),
        ([root / "1.png"], r"1\.png: no such file"),
        ([root / "2.png", root / "text.mp4"], r"text\.mp4: no image; several inputs must all be"),
        ([root / "2.png", root / "empty"], "empty: a folder; several inputs must all be images"),
        (97, "camera 97: OpenCV cannot open it"),
        (10**12, "camera 1000000000000: OpenCV cannot open it"),
    ]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for source, message in unreadable(tmp_path):
        with pytest.raises(FileFormatError, match=message):
            video.frames(source)


def test_the_words_of_a_command_line_name_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert video.source_of(["0"]) == 0
    (tmp_path / "0").mkdir()
    assert video.source_of(["0"]) == Path("0"), "a folder of that name comes before a camera"
    assert video.source_of(["a.mp4"]) == Path("a.mp4")
    assert video.source_of(["a.png", "b.png"]) == [Path("a.png"), Path("b.png")]


def log_level(*given: int) -> int:
    """OpenCV's, after it was set where one is given."""
    logging: Any = getattr(cv2.utils, "logging", cv2)
    if given:
        logging.setLogLevel(*given)
    return logging.getLogLevel()


@pytest.fixture
def warnings() -> Iterator[int]:
    """The level at which OpenCV warns, which is set, and its own again afterwards."""
    before = log_level()
    yield log_level(3)
    log_level(before)


def test_an_absent_camera_is_said_by_our_error_alone(warnings: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VideoError, match="camera 97: OpenCV cannot open it"):
        video.frames(97)
    assert capfd.readouterr().err == ""
    assert log_level() == warnings, "OpenCV warns of other things as before"


def test_more_of_opencvs_log_stays_where_it_was_asked_for(warnings: int, capfd: pytest.CaptureFixture[str]) -> None:
    log_level(warnings + 1)
    with pytest.raises(VideoError):
        video.frames(97)
    assert "VIDEOIO" in capfd.readouterr().err
    assert log_level() == warnings + 1


def test_an_error_keeps_the_video_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    video_file.write(path, moving(3))
    before = path.read_bytes()

    def frames_that_break_off() -> Iterator[Tensor]:
        yield moving(1)[0]
        raise KeyError

    with pytest.raises(KeyError):
        video_file.write(path, frames_that_break_off())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"a\.gif: expected a name that ends in \.mp4, \.avi, \.mkv"):
        video_file.write(tmp_path / "a.gif", moving(1))
    with pytest.raises(VideoError, match="at least one frame"):
        video_file.write(tmp_path / "a.mp4", [])
    with pytest.raises(VideoError, match="64x48 pixels like the first, got 64x40"):
        video_file.write(tmp_path / "a.mp4", [*moving(1), *moving(1, 40, 64)])
    with pytest.raises(VideoError, match="expected uint8 frames"):
        video_file.write(tmp_path / "a.mp4", [torch.zeros(3, 48, 64)])
    with pytest.raises(OutputError, match=r"a\.mp4: MPEG-4 has at most 8191 pixels a side, got 8192x16; write another"):
        video_file.write(tmp_path / "a.mp4", moving(1, 16, 8191))
    with pytest.raises(VideoError, match="expected a path in UTF-8"):
        video_file.write(tmp_path / os.fsdecode(b"caf\xe9.mp4"), moving(1))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"(a file is where a folder is needed|a parent of it is a file)"):
        video_file.write(tmp_path / "file" / "a.mp4", moving(1))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="a folder is where a file is needed"):
        video_file.write(tmp_path / "folder.mp4", moving(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_disk_that_fills_up_is_noticed(tmp_path: Path, suffix: str) -> None:
    noise = (torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in range(50))
    message = "its 50 frames were not all stored; the disk may be full"
    with file_size_limit(60_000), pytest.raises(OutputError, match=message):
        video_file.write(tmp_path / f"a{suffix}", noise)
    assert list(tmp_path.iterdir()) == []
