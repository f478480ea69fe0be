"""`deq-vision stream` and `deq-vision demo` from the command line, and messages instead of tracebacks."""

import json
from pathlib import Path

import pytest
import torch
from tests.vision.pictures import HEADS, network, scene

from deq_core.experiment.data.images import write_image
from deq_core.experiment.media import video, video_file
from deq_vision import save
from deq_vision.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint for each task."""
    folders = {task: tmp_path_factory.mktemp(task) for task in HEADS}
    for task, folder in folders.items():
        save(folder / "model.safetensors", network(task))
    return folders


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A real video file of six frames."""
    video_file.write(tmp_path / "clip.mp4", scene(6), 12.0)
    return tmp_path / "clip.mp4"


def test_a_video_from_the_command_line(
    clip: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("segment", "detect"):
        out = clip.with_name(f"{task}.mp4")
        main(["stream", str(clip), "--task", task, "--checkpoint", str(trained[task]), "--out", str(out)])
        values = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (values["frames"], values["cold"]) == (6, 1)
        assert len(list(video.frames(out))) == 6


def test_an_image_from_the_command_line(
    tmp_path: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "a.png", scene(1)[0])
    main(["demo", str(tmp_path / "a.png"), "--checkpoint", str(trained["classify"]), "--out", str(tmp_path / "out")])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 1
    assert (tmp_path / "out" / "demo.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["stream", "missing.mp4"], "missing.mp4: no such file or folder"),
        (["stream", "text.mp4"], "text.mp4: OpenCV cannot open it as a video"),
        (["stream", "clip.mp4", "--task", "detect"], "expected one to detect with, got"),
        (["stream", "clip.mp4", "--checkpoint", "nowhere"], "nowhere: no such checkpoint"),
        (["stream", "clip.mp4", "--steps", "0"], "steps: expected at least 1, got 0"),
        (["stream", "clip.mp4", "--tolerance", "0"], "tolerance: expected a number above 0, got 0"),
        (["stream", "clip.mp4", "--cut", "1"], "cut: expected a number above 1, got 1"),
        (["stream", "clip.mp4", "--threads", "0"], "threads: expected at least 1, got 0"),
        (["stream", "clip.mp4", "--device", "abacus"], "device: expected auto, cpu, cuda"),
        (["stream", "clip.mp4", "--out", "out.gif"], "out.gif: expected a name that ends in .mp4, .avi, .mkv"),
        (["stream", "clip.mp4", "--names", "text.mp4"], "names: text.mp4: expected 8 names"),
        (["stream", "tiny.mkv"], "tiny.mkv: expected frames of at least 16 pixels a side, got 12x12"),
        (["demo", "missing.png"], "missing.png: no such file or folder"),
        (["demo", "clip.mp4"], "clip.mp4: expected an image"),
        (["demo", "empty"], "empty: expected images"),
        (["demo", "tiny.png"], "tiny.png: expected at least 16 pixels a side, got 12x12"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    clip: Path, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch, change: list[str], message: str
) -> None:
    monkeypatch.chdir(clip.parent)
    Path("text.mp4").write_text("not a video")
    Path("empty").mkdir()
    small = torch.zeros(3, 12, 12, dtype=torch.uint8)
    video_file.write(Path("tiny.mkv"), [small, small])
    write_image(Path("tiny.png"), small)
    before = sorted(Path().iterdir())
    given = [*change[:2], "--out", "out.mp4", "--checkpoint", str(trained["segment"]), *change[2:]]
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert str(caught.value).startswith("deq-vision: ")
    assert message in str(caught.value)
    assert sorted(Path().iterdir()) == before, "nothing is left behind"
