"""`deq-flow demo` from the command line: any source, any checkpoint, and messages instead of tracebacks."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.flow.small import equilibrium_model, store
from torch import Tensor

from deq_core.experiment.data.images import write_image
from deq_core.experiment.media import video, video_file
from deq_core.experiment.outputs.written import RECORD
from deq_flow import build
from deq_flow.cli import main


def moving(count: int) -> list[Tensor]:
    """Stripes that move to the right, uint8 RGB (3, 32, 48)."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    return [(127 + 100 * torch.sin((x - time) / 4 + y / 7)).byte().expand(3, -1, -1).clone() for time in range(count)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A real video file of four frames."""
    video_file.write(tmp_path / "clip.mp4", moving(4), 12.0)
    return tmp_path / "clip.mp4"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as `deq-flow train` writes it."""
    return store(tmp_path_factory.mktemp("trained"), equilibrium_model(4))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as RAFT was released: names of a DataParallel model, pickled by torch."""
    path = tmp_path_factory.mktemp("released") / "raft-small.pth"
    state = build("raft-small").state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    return path


class Camera:
    """Stands for OpenCV's capture of a camera: it announces no length, and goes on until its plug is pulled."""

    let_go = 0

    def __init__(self, index: int | str) -> None:
        self.there = index == 3
        self.left = moving(5)

    def isOpened(self) -> bool:
        return self.there

    def get(self, what: int) -> float:
        return 30.0 if what == cv2.CAP_PROP_FPS else -1.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        if not self.left:
            return False, None
        return True, self.left.pop(0).permute(1, 2, 0).flip(2).numpy()

    def release(self) -> None:
        Camera.let_go += 1


def test_a_camera_by_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "let_go", 0)
    main(["demo", "3", "--out", str(tmp_path / "out"), "--save", "npz", "flo"])
    summary = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert (summary["source"], summary["announced"], summary["estimates"]) == ("camera 3", None, 4)
    assert len(list((tmp_path / "out").rglob("*.npz"))) == len(list((tmp_path / "out").rglob("*.flo"))) == 4
    assert Camera.let_go == 2, "once after it was asked what it has, once after the last frame"


def test_a_camera_read_so_far_as_asked_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "let_go", 0)
    main(["demo", "3", "--out", str(tmp_path / "out"), "--save", "flo", "--frames", "3"])
    assert len(list((tmp_path / "out").rglob("*.flo"))) == 2
    assert Camera.let_go == 2


def test_a_camera_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "7", "--out", str(tmp_path / "out")])
    assert "camera 7: OpenCV cannot open it as a video; connect it, or choose another index" in str(stopped.value.code)
    assert not (tmp_path / "out").exists()


def test_what_was_done_until_a_demo_is_terminated_is_whole(tmp_path: Path, trained: Path) -> None:
    stripes = moving(50)
    video_file.write(tmp_path / "long.mp4", (stripes[index % 50] for index in range(3000)), 12.0)
    out = tmp_path / "out"
    given = ["demo", str(tmp_path / "long.mp4"), "--out", str(out), "--checkpoint", str(trained), "--steps", "2"]
    demo = subprocess.Popen(
        [sys.executable, "-m", "deq_flow", *given, "--save", "colour", "arrows", "flo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while demo.poll() is None and len(list(tmp_path.rglob("*.flo"))) < 5:
        time.sleep(0.05)
    demo.terminate()
    printed, told = demo.communicate(timeout=60)
    assert (demo.returncode, printed, "Traceback" in told) == (128 + signal.SIGTERM, "", False), told
    assert told.endswith("deq-flow: terminated\n")
    summary = json.loads((out / "demo.json").read_text())
    count = summary["estimates"]
    assert f"its first {count} flows are in {out}" in told
    assert summary["complete"] == 0
    assert 5 <= count < 2999
    assert len(summary["frames"]) == len(list(out.rglob("*.flo"))) == count
    assert len(list(video.frames(out / "colour.mp4"))) == len(list(video.frames(out / "arrows.mp4"))) == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.mp4", "out"]


def test_a_video_with_the_shipped_checkpoint(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clip.with_name("out")
    main(["demo", str(clip), "--out", str(out)])
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (values["estimates"], values["complete"]) == (3, 1)
    assert sorted(path.name for path in out.iterdir()) == [RECORD, "colour.mp4", "demo.json", "side-by-side.mp4"]
    assert json.loads((out / "demo.json").read_text())["network"] == "default"
    assert len(list(video.frames(out / "colour.mp4"))) == 3


def test_a_folder_with_a_trained_checkpoint(tmp_path: Path, trained: Path) -> None:
    for number, frame in enumerate(moving(3)):
        write_image(tmp_path / "in" / f"{number}.png", frame)
    out = tmp_path / "out"
    main(["demo", str(tmp_path / "in"), "--out", str(out), "--checkpoint", str(trained), "--save", "arrows", "flo"])
    assert sorted(path.name for path in out.iterdir()) == [RECORD, "arrows.mp4", "demo.json", "flo"]
    assert sorted(path.name for path in (out / "flo").iterdir()) == ["000000.flo", "000001.flo"]


def test_two_images_with_a_released_checkpoint(tmp_path: Path, released: Path) -> None:
    names = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    for name, frame in zip(names, moving(2), strict=True):
        write_image(Path(name), frame)
    out = tmp_path / "out"
    main(
        ["demo", *names, "--out", str(out), "--checkpoint", str(released), "--steps", "2", "--save", "colour", "kitti"]
    )
    assert sorted(path.name for path in out.iterdir()) == [RECORD, "colour.png", "demo.json", "kitti"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["missing.mp4"], "missing.mp4: no such file or folder"),
        (["text.mp4"], "text.mp4: OpenCV cannot open it as a video"),
        (["still.mp4"], "still.mp4: expected at least two frames, got 1"),
        (["clip.mp4", "--checkpoint", "missing.pth"], "missing.pth: no such checkpoint"),
        (["clip.mp4", "--checkpoint", "text.mp4"], "text.mp4"),
        (["clip.mp4", "--device", "abacus"], "device: expected auto, cpu, cuda"),
        (["clip.mp4", "--steps", "0"], "steps: expected at least 1, got 0"),
        (["clip.mp4", "--out", "text.mp4"], "cannot write text.mp4"),
        (["clip.mp4", "--out", "text.mp4/out"], "cannot write text.mp4/out"),
        (["clip.mp4", "--out", "."], "cannot write .: the command reads clip.mp4 in it (source)"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    clip: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, change: list[str], message: str
) -> None:
    monkeypatch.chdir(clip.parent)
    Path("text.mp4").write_text("not a video")
    video_file.write(Path("still.mp4"), moving(1))
    before = sorted(Path().iterdir())
    given = ["demo", "--out", "out", "--checkpoint", str(trained), *change]
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert str(caught.value).startswith("deq-flow: ")
    assert message in str(caught.value)
    assert sorted(Path().iterdir()) == before, "nothing is left behind"
