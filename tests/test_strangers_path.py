"""README's ways from nothing to a result of one's own are as short as it says.

That with the network that ships is gone as a stranger would: in a new clone, with an empty home and nothing of this
process's environment. Only what pip fetches is left out: `make install` finds the environment of these tests. The
others train, a few steps each, and write a text of a few tokens.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.page_commands import status
from tests.workflows.checkout import ROOT

from deq_core.experiment.data import photographs
from deq_flow import load

SECTION = (ROOT / "README.md").read_text().partition("\n## On data of your own\n")[2].partition("\n## ")[0]
VIDEO, PICTURES, PAIRS, TEXT = (
    block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```$", SECTION, flags=re.DOTALL | re.MULTILINE)
)
SHORT = {
    "deq-vision train": "--steps 20 --batch-size 8",
    "deq-flow fine-tune": "--steps 2 --batch-size 2",
    "deq-sequence train": "--steps 20 --batch-size 4",
    "deq-sequence generate": "--length 20",
}
MOVED = 3  # pixels to the left, from a frame to the next
PROGRAMS = Path(sys.executable).parent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tracking_database")]


def follow(commands: Sequence[str], own: Mapping[str, Path]) -> None:
    """Runs commands with what they name on the page replaced by what one has."""
    for command in commands:
        program, *words = shlex.split(f"{command} {SHORT.get(' '.join(command.split()[:2]), '')}")
        assert not status(program, [str(own.get(word, word)) for word in words]), command


def view(left: int) -> np.ndarray:
    """What a camera sees of a photograph, that many pixels to the right: BGR (96, 128, 3)."""
    return photographs.load("skimage/data/chelsea.png")[60:156, 100 + left : 228 + left, ::-1]


def test_a_clone_and_a_video_become_flow_in_three_commands(tmp_path: Path) -> None:
    video, clone, home = (tmp_path / name for name in ("walk.mp4", "deq", "home"))
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (128, 96))
    for frame in range(3):
        writer.write(view(frame * MOVED))
    writer.release()
    home.mkdir()
    places = os.pathsep.join((str(PROGRAMS), "/usr/local/bin", "/usr/bin", "/bin"))
    environment = {"PATH": places, "HOME": str(home), "LANG": "C.UTF-8"}

    def run(folder: Path, *commands: str) -> None:
        done = subprocess.run(
            ["bash", "-euc", "\n".join(commands)], cwd=folder, env=environment, text=True, stderr=subprocess.PIPE
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr

    fetch, *further = VIDEO
    assert len(further) == 2
    run(tmp_path, fetch.replace("<this repository>", shlex.quote(str(ROOT))))
    (clone / ".venv").mkdir()
    (clone / ".venv/bin").symlink_to(PROGRAMS)
    (clone / ".venv/installed").write_text(f"{clone}\n")
    run(clone, *(command.replace("VIDEO", shlex.quote(str(video))) for command in further))
    rows = json.loads((clone / "OUT/demo.json").read_text())["frames"]
    assert [row["warning"] for row in rows] == [None] * 2
    assert all(row["error"] < row["still"] / 2 for row in rows)


def test_folders_of_pictures_become_predictions_for_new_ones_in_three_commands(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, colour in (("apple", (40, 30, 200)), ("leaf", (40, 160, 30))):
        for number in range(14):
            folder = tmp_path / ("new" if number == 0 else f"pictures/{name}")
            folder.mkdir(parents=True, exist_ok=True)
            picture = (rng.normal(0, 30, (64, 64, 3)) + colour).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{name}{number}.jpg"), picture)
    assert len(PICTURES) == 3
    follow(PICTURES, {"PICTURES": tmp_path / "pictures", "NEW": tmp_path / "new"})
    assert json.loads((tmp_path / "MEASURED/metrics.json").read_text())["top1"] == 1
    seen = json.loads((tmp_path / "SEEN/demo.json").read_text())["images"]
    assert [image["classes"][0]["class"] for image in seen] == ["apple", "leaf"]


def test_pairs_with_flow_become_a_network_and_its_flow_in_three_commands(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    flow = np.tile(np.array([-MOVED, 0], np.float32), (96, 128, 1))
    for number in range(4):
        cv2.imwrite(str(pairs / f"{number}_img1.png"), view(10 * number))
        cv2.imwrite(str(pairs / f"{number}_img2.png"), view(10 * number + MOVED))
        cv2.writeOpticalFlow(str(pairs / f"{number}_flow.flo"), flow)
    assert len(PAIRS) == 3
    follow(PAIRS, {"PAIRS": pairs, "BEFORE": pairs / "0_img1.png", "AFTER": pairs / "0_img2.png"})
    measured = json.loads((tmp_path / "TUNED/metrics.json").read_text())
    assert measured["val_epe"] < 1 < measured["zero_epe"]
    shipped, tuned = (load(name).state_dict() for name in ("default", tmp_path / "TUNED"))
    assert any(not tensor.equal(tuned[name]) for name, tensor in shipped.items())
    (row,) = json.loads((tmp_path / "FLOW/demo.json").read_text())["frames"]
    assert row["warning"] is None
    assert row["error"] < row["still"] / 2


def test_a_text_becomes_generated_text_in_two_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "story.txt"
    text.write_text(
        "".join(f"It was the {number}th time that it rained in {number % 7} days.\n" for number in range(400))
    )
    assert len(TEXT) == 2
    follow(TEXT, {"TEXT": text})
    assert capsys.readouterr().out.splitlines()[-1].startswith("It was")
