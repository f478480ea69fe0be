"""The checkpoints that come with the package see in small sets, made here, what their cards say of the mini sets."""

import json
from pathlib import Path

import pytest
from tests.profiles import MINI
from tests.vision.pictures import scene

import deq_vision
from deq_core.experiment import config
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.data.images import write_image
from deq_core.experiment.media import video_file
from deq_vision.cli import main
from deq_vision.config import ModelConfig
from deq_vision.data.mini.write_digits import MiniDigitsConfig, write_digits
from deq_vision.data.mini.write_street import MiniStreetConfig, write_street
from deq_vision.evaluate import Evaluate, evaluate
from deq_vision.models.shipped import SHIPPED
from deq_vision.params import Experiment

LEAST = {"digits": ("top1", 0.5), "street": ("miou", 0.5), "detect": ("ap50", 0.35)}
"""Metric, and what a few images of the test split must reach; they scatter more than the cards' numbers."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "digits", MiniDigitsConfig(seed=5, train=5, val=1, test=100))
    write_street(
        root / "street", MiniStreetConfig(seed=5, train_streets=1, train_frames=1, val_streets=1, test_streets=3)
    )
    return root


@pytest.mark.parametrize("name", SHIPPED)
def test_it_reaches_what_its_card_says_on_images_it_has_never_seen(name: str, data: Path) -> None:
    model = deq_vision.load(name)
    task = config.load(Experiment, MINI, f"vision.experiments.{name}").task
    stop = StopConfig(max_steps=24)
    metrics, _ = evaluate(model, task, Evaluate(stop=stop, sweep=1, batch_size=30), data)
    metric, least = LEAST[name]
    assert metrics[metric] > least


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_has_a_card(name: str) -> None:
    folder = SHIPPED[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2e6
    assert f"deq-vision train --experiment {name} --seed" in (folder / "CARD.md").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_the_network_of_the_mini_recipe(name: str) -> None:
    recipe = config.load(Experiment, MINI, f"vision.experiments.{name}")
    assert config.load(ModelConfig, SHIPPED[name] / "config.json") == recipe.model


@pytest.mark.parametrize(
    ("asked", "task", "name"),
    [
        ([], "segment", "street"),
        (["--task", "detect"], "detect", "detect"),
        (["--task", "classify"], "classify", "digits"),
    ],
)
def test_the_demo_takes_the_one_that_ships_for_the_task(tmp_path: Path, asked: list[str], task: str, name: str) -> None:
    write_image(tmp_path / "a.png", scene(1)[0])
    main(["demo", str(tmp_path / "a.png"), *asked, "--out", str(tmp_path / "out")])
    told = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert (told["task"], told["checkpoint"]) == (task, name)


def test_a_video_is_segmented_by_the_one_that_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video_file.write(tmp_path / "clip.mp4", scene(3), 12.0)
    main(["stream", str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "seen.mp4")])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 3


def test_a_checkpoint_for_another_task_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", scene(1)[0])
    with pytest.raises(SystemExit, match="expected one to detect with, got digits, which is to classify"):
        main(
            [
                "demo",
                str(tmp_path / "a.png"),
                "--task",
                "detect",
                "--checkpoint",
                "digits",
                "--out",
                str(tmp_path / "o"),
            ]
        )
