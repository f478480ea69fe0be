"""A network that is there already is trained on with pairs of one's own: what stays, what is measured, what is said."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.changes import lost
from tests.flow.interrupted import Interrupt, Interrupted
from tests.flow.small import equilibrium_model, store, write_kitti_set
from tests.profiles import SMOKE

from deq_core.experiment import config
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.optim import Every
from deq_core.experiment.data.images import write_image
from deq_core.experiment.data.photographs import TEST, load_all
from deq_core.experiment.tables import numbers
from deq_core.experiment.tracking.run import Log, ignore
from deq_flow import build, load
from deq_flow.cli import main
from deq_flow.config import Scales
from deq_flow.data.held_out import HeldOut, held_out, split
from deq_flow.data.io import write_flo
from deq_flow.data.mini.generated import Generated, GeneratedConfig
from deq_flow.data.samples import FlowSample
from deq_flow.data.sets.own import Own
from deq_flow.evaluation.evaluate import evaluate
from deq_flow.evaluation.published import solved_once
from deq_flow.inference import Estimator
from deq_flow.networks import SHIPPED, described, weights
from deq_flow.params import Train
from deq_flow.studies.flow import Flow
from deq_flow.training.fine_tune import FineTune, fine_tune, fitted, training
from deq_flow.training.train import measure_of, opened

PAGE = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text()
COMMANDS = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)).splitlines()
SHORT = FineTune(steps=3, batch_size=2, every=Every(log=1, checkpoint=1))


def write_pairs(root: Path, count: int = 5) -> Path:
    """Generated pairs of 64x64 pixels, side by side."""
    pairs = Generated(GeneratedConfig(height=64, width=64), load_all(TEST), kind=0, count=count)
    for number in range(count):
        sample = pairs[number]
        write_image(root / f"{number}_img1.png", sample.image1)
        write_image(root / f"{number}_img2.png", sample.image2)
        write_flo(root / f"{number}_flow.flo", sample.flow)
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("own") / "pairs")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network with a leak and two scales."""
    return store(tmp_path_factory.mktemp("start"), equilibrium_model(4, leak=0.15, scales=Scales(coarsest=32)))


def tuned(start: Path, pairs: Path, out: Path, recipe: FineTune = SHORT, log: Log = ignore) -> dict[str, float]:
    recipe = fitted(recipe, pairs)
    places = {"data": pairs, "out": out, "scratch": out.with_name(f"{out.name}-scratch")}
    return fine_tune(start, recipe, seed=0, device="cpu", log=log, **places)


def same_weights(one: Path, other: Path) -> bool:
    first, second = (checkpoint.load_tensors(folder / "model.safetensors") for folder in (one, other))
    return all(first[name].equal(second[name]) for name in first)


class Shades:
    """A set of ten pairs, in scenes where there are some."""

    def __init__(self, scenes: Mapping[str, range] | None) -> None:
        if scenes is not None:
            self.groups = lambda: scenes

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> FlowSample:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("scenes", "share", "held"),
    [
        (None, 0.2, [8, 9]),
        (None, 0.01, [9]),
        (None, 0.99, list(range(1, 10))),
        ({"a": range(10)}, 0.2, [8, 9]),
        ({"a": range(4), "b": range(4, 8), "c": range(8, 10)}, 0.2, [8, 9]),
        ({"a": range(1), "b": range(1, 8), "c": range(8, 10)}, 0.4, [0, 8, 9]),
        ({"a": range(3), "b": range(3, 6), "c": range(6, 10)}, 0.1, [3, 4, 5]),
    ],
)
def test_whole_scenes_are_held_out_or_else_the_last_pairs(
    scenes: Mapping[str, range] | None, share: float, held: list[int]
) -> None:
    kept, found = split(Shades(scenes), share)
    assert found == held
    assert sorted([*kept, *found]) == list(range(10))


def test_what_is_measured_is_not_trained_on(start: Path, pairs: Path) -> None:
    recipe = replace(SHORT, held_out=HeldOut(share=0.4))
    choice = training(fitted(recipe, pairs), load(start), Own(pairs), "cpu")
    mix, _ = opened(choice, pairs)
    assert {mix[index].name for index in range(len(mix))} == {"own/0", "own/1", "own/2"}


def test_every_field_of_a_recipe_changes_the_training(start: Path, pairs: Path) -> None:
    network, found = load(start), Own(pairs)

    def outcome(recipe: FineTune) -> object:
        return training(fitted(recipe, pairs), network, found, "cpu")

    assert lost(replace(SHORT, held_out=HeldOut(share=0.4)), outcome) == []
    assert lost(HeldOut(share=0.4, pairs=2), lambda one: [*held_out([found], one).indices]) == []


def test_a_batch_may_be_larger_than_the_set(start: Path, pairs: Path) -> None:
    choice = training(fitted(replace(SHORT, batch_size=9), pairs), load(start), Own(pairs), "cpu")
    mix, _ = opened(choice, pairs)
    assert len(mix) == 12


def test_the_error_is_that_of_evaluate_on_the_same_pairs(start: Path, pairs: Path) -> None:
    network, found = load(start), Own(pairs)
    rows = evaluate(solved_once(Estimator(network)), {"own": found}, batch_size=1).samples
    expected = sum(numbers(rows, "epe")) / len(rows)
    assert measure_of(found)(network)["val_epe"] == pytest.approx(expected, rel=1e-5)


def test_what_is_stored_with_the_weights_stays_and_the_weights_change(start: Path, pairs: Path, tmp_path: Path) -> None:
    found = tuned(start, pairs, tmp_path / "out")
    assert described(tmp_path / "out") == described(start)
    assert not same_weights(tmp_path / "out", start)
    assert {"before_epe", "before_change", "zero_epe", "val_epe", "val_change", "expansion"} <= found.keys()
    statistics = [name for name in load(start).state_dict() if "running" in name]
    one, other = (load(folder).state_dict() for folder in (start, tmp_path / "out"))
    assert statistics
    assert all(one[name].equal(other[name]) for name in statistics)


def test_its_recipe_gives_the_same_network_again_also_when_it_was_interrupted(
    start: Path, pairs: Path, tmp_path: Path
) -> None:
    tuned(start, pairs, tmp_path / "one")
    recipe = config.load(FineTune, tmp_path / "one" / "recipe.json")
    assert recipe == fitted(SHORT, pairs)

    with pytest.raises(Interrupted):
        tuned(start, pairs, tmp_path / "two", recipe, Interrupt(2))
    assert (tmp_path / "two-scratch" / "training.pt").exists()
    tuned(start, pairs, tmp_path / "two", recipe)
    assert same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("leak", [0.0, 0.15])
@pytest.mark.parametrize("scales", [None, Scales(coarsest=32)])
def test_only_what_a_network_has_is_trained(leak: float, scales: Scales | None, pairs: Path) -> None:
    network = build("deq-flow-mini", leak=leak, scales=scales)
    choice = training(fitted(SHORT, pairs), network, Own(pairs), "cpu")
    assert (choice.stabilise is not None, choice.coarser is not None) == (leak > 0, scales is not None)


def test_flow_in_the_format_of_kitti_is_sparse_and_no_other_split_is_needed(start: Path, tmp_path: Path) -> None:
    root = write_kitti_set(tmp_path, height=40, width=48)
    recipe = fitted(replace(SHORT, data="kitti", steps=1), root)
    assert (recipe.sparse, recipe.crop) == (True, (40, 48))
    assert tuned(start, root, tmp_path / "out", recipe)["val_epe"] > 0


def test_an_official_file_is_fine_tuned_as_it_is_solved(
    pairs: Path, tmp_path: Path, tracking_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({f"module.{name}": value for name, value in build("raft-small").state_dict().items()}, "raft-small.pth")
    main(["fine-tune", str(pairs), "--start", "raft-small.pth", "--steps", "1", "--batch-size", "1", "--out", "out"])
    assert "raft-small.pth has no leak" in capsys.readouterr().err
    network = load("out")
    assert network.size == load("raft-small.pth").size
    assert not network.state_dict()["fnet.conv1.weight"].equal(load("raft-small.pth").state_dict()["fnet.conv1.weight"])


def test_train_takes_own_pairs_alone_and_a_file_to_start_from(
    start: Path, pairs: Path, tracking_database: Path
) -> None:
    flow = config.plain(config.check(Flow, SMOKE, "flow"))
    mix = [{"data": "own", "augment": {"crop": [32, 32]}}]
    flow["train"]["deq"] |= {"steps": 1, "batch_size": 2, "mix": mix, "held_out": {"share": 0.2}}
    Path("params.json").write_text(json.dumps({"flow": flow}))
    words = f"train --method deq --data {pairs} --params params.json --start {start / 'model.safetensors'} --out out"
    main(words.split())
    assert json.loads(Path("out/metrics.json").read_text())["val_epe"] > 0
    torch.save(build("raft-small").state_dict(), "raft-small.pth")
    for name in ("raft-small.pth", "default"):
        assert weights(name).keys() == load(name).state_dict().keys()


def noise(root: Path, name: str, height: int, width: int) -> None:
    write_image(root / name, torch.randint(256, (3, height, width), dtype=torch.uint8))


def nowhere_known(root: Path) -> None:
    for number in range(5):
        write_flo(root / f"{number}_flow.flo", torch.full((2, 64, 64), torch.nan))


def small_pair(root: Path) -> None:
    for image in ("img1", "img2"):
        noise(root, f"9_{image}.png", 40, 64)
    write_flo(root / "9_flow.flo", torch.zeros(2, 40, 64))


FAULTS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "a size": (
        lambda root: noise(root, "1_img2.png", 64, 65),
        [],
        r"1_img2\.png: expected 64x64 .*check-data own",
    ),
    "no flow": (lambda root: (root / "2_flow.flo").unlink(), [], r"missing: .*2_flow\.flo"),
    "no known flow": (nowhere_known, [], r"_flow\.flo: expected flow that is known somewhere"),
    "a crop": (small_pair, ["--crop", "64", "64"], r"9_img1\.png: expected frames of at least 64x64 .*got 40x64"),
    "a small crop": (lambda root: None, ["--crop", "16", "16"], r"crop: expected at least 32"),
    "steps": (lambda root: None, ["--steps", "0"], r"steps.* of at least 1, got 0"),
    "a share": (lambda root: None, ["--validation-share", "1"], r"held_out: expected a share above 0 and below 1"),
    "a set": (lambda root: None, ["--set", "mine"], r"data: expected one of .*own.*, got 'mine'"),
    "a start": (lambda root: None, ["--start", "nowhere"], r"nowhere: no such checkpoint"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_trained_is_said_in_a_sentence(name: str, tracking_database: Path) -> None:
    spoil, options, message = FAULTS[name]
    write_pairs(Path("pairs"))
    spoil(Path("pairs"))
    with pytest.raises(SystemExit, match=message):
        main(["fine-tune", "pairs", "--out", "out", "--steps", "1", *options])
    assert not Path("out").exists()


def test_one_pair_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pairs: expected at least 2 pairs, .*, got 1"):
        fitted(SHORT, write_pairs(tmp_path / "pairs", 1))


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_says(
    start: Path,
    pairs: Path,
    tracking_database: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SHIPPED, "default", start)
    for name in ("pairs", "other-pairs"):
        Path(name).symlink_to(pairs)
    write_kitti_set(Path("data"), height=64, width=64)
    for name, image in (("before", "0_img1"), ("after", "0_img2")):
        Path(f"{name}.png").write_bytes((pairs / f"{image}.png").read_bytes())
    for command in COMMANDS:
        program, *words = shlex.split(re.sub(r"--steps \d+", "--steps 2 --batch-size 2", command))
        assert program == "deq-flow"
        main(words)
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"problems": 0}
    assert same_weights(Path("tuned"), Path("again"))
    for out in ("tuned", "further", "tuned-kitti"):
        assert json.loads(Path(out, "metrics.json").read_text())["val_epe"] > 0
    assert Path("flow", "demo.json").exists()


def test_the_recipe_of_the_page_loads_and_trains_without_another_set(pairs: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "recipe.yaml").write_text(block)
    mix, _ = opened(config.load(Train, tmp_path / "recipe.yaml"), pairs)
    assert len(mix) == 4
