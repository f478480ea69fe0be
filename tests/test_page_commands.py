"""The commands that pages show are run, one after the other, in a folder that has what the page speaks of.

Others run where they are at home: those of training.md and fine-tuning.md, of pages that add something, and README's.
"""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.flow.parity import released_state
from tests.flow.small import equilibrium, write_kitti_set, write_sintel
from tests.guides import ROOT
from tests.profiles import SMOKE
from tests.test_pages import TYPED, status

import deq_core as deq
import deq_vision
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.data.images import write_image
from deq_core.experiment.data.photographs import TEST, load_all
from deq_core.experiment.media import video_file
from deq_flow.data.mini.generated import Generated, GeneratedConfig
from deq_flow.params import EquilibriumModel
from deq_vision.data.mini.write import MiniSets, write_mini
from deq_vision.data.mini.write_digits import MiniDigitsConfig
from deq_vision.data.mini.write_street import MiniStreetConfig

pytestmark = pytest.mark.slow

ELSEWHERE = {
    "deq-flow demo 0 --out flow": "tests/flow/test_demo_command.py has a camera",
    "python -m benchmarks.stream.speed results/vision/train/street-0 --data data/vision/street": "takes minutes; "
    "tests/vision/test_streaming.py runs it small",
}
"""Commands that this machine cannot do, or not soon, and where they are done."""


def frames(count: int) -> list[torch.Tensor]:
    """Of a scene that moves, (3, 96, 128)."""
    pairs = Generated(GeneratedConfig(height=96, width=128), load_all(TEST), kind=0, count=1)
    return [pairs[0].image1.roll(-2 * number, dims=2) for number in range(count)]


def film() -> None:
    """holiday.mp4, frames/, and a picture before and after."""
    video_file.write(Path("holiday.mp4"), frames(3))
    for number, image in enumerate(frames(2)):
        write_image(Path("frames", f"{number}.png"), image)
    for name, image in zip(("before", "after"), frames(2), strict=True):
        write_image(Path(f"{name}.png"), image)


def released(variant: str, name: str) -> None:
    """A file as a release has it."""
    torch.save(released_state(variant), name)


def demo() -> None:
    film()
    released("v2_b", "deq-flow-B-things-test-3x.pth")


def evaluation() -> None:
    released("v2_b", "deq-flow-H-things-test-3x.pth")
    layer = LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=2), adjoint=deq.Phantom(steps=1))
    checkpoint.save(
        Path("CHECKPOINT/model.safetensors"), equilibrium(), EquilibriumModel(name="deq-flow-mini", layer=layer)
    )
    for split, of_kitti in (("training", "training"), ("test", "testing")):
        write_sintel(Path("data"), split, height=64, width=64)
        write_kitti_set(Path("data"), of_kitti, height=64, width=64)


def streaming() -> None:
    film()
    write_image(Path("street.png"), frames(1)[0])
    shutil.copytree(Path(deq_vision.__file__).parent / "checkpoints/street", "results/vision/train/street-0")
    street = MiniStreetConfig(train_streets=1, val_streets=1, test_streets=2)
    write_mini(Path("data/vision"), MiniSets(digits=MiniDigitsConfig(train=5, val=1, test=1), street=street))
    shutil.copy(SMOKE, "params.yaml")


PAGES: dict[str, Callable[[], None]] = {
    "demo.md": demo,
    "evaluation.md": evaluation,
    "sequence.md": lambda: None,
    "streaming.md": streaming,
}
LEAVE = {
    "demo.md": ["flow/demo.json"],
    "evaluation.md": ["results/H-3x-sintel/metrics.json", "submission-sintel", "submission-kitti/flow/000001_10.png"],
    "streaming.md": ["seen.mp4", "cold.mp4", "seen/street.png.png", "results/stream/summary.csv"],
}
"""What is there when all commands of a page have run."""


@pytest.mark.usefixtures("tracking_database")
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_they_say(page: str) -> None:
    PAGES[page]()
    commands = [(program, line) for program, line in TYPED[page] if f"{program} {line}" not in ELSEWHERE]
    assert commands
    for program, line in commands:
        assert not status(program, shlex.split(line.replace(" --device cuda", ""), comments=True)), line
    assert [place for place in LEAVE.get(page, ()) if not Path(place).exists()] == []


def test_what_is_done_elsewhere_is_shown() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert [command for command in ELSEWHERE if command not in pages] == []
