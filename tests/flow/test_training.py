"""The stages of a curriculum follow one another, and the released recipes are as published."""

import copy
import json
import os
import shutil
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from tests.profiles import PAPER, SMOKE
from torch.optim.swa_utils import update_bn

from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, load_tensors
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.data.registry import ReleasedSets
from deq_core.experiment.data.released import located
from deq_core.experiment.tracking.run import ignore
from deq_flow.cli import main
from deq_flow.data.batches import batches
from deq_flow.data.mini.write import MiniConfig, write_mini
from deq_flow.data.mixes import Mix, open_sets
from deq_flow.data.registry import REGISTRY
from deq_flow.networks import build_network, load
from deq_flow.params import EquilibriumModel, Train
from deq_flow.studies.flow import CurriculumStage, Flow
from deq_flow.training.objective import noisy
from deq_flow.training.train import train

STAGES = ("chairs", "things", "sintel", "kitti")

RELEASED = {
    ("deq-v1-b", "chairs"): (120_000, 12, (368, 496), 4e-4, 1e-4, 0.8, "anderson", 36, 6, 1),
    ("deq-v1-b", "things"): (120_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "anderson", 40, 2, 3),
    ("deq-v1-b-demo", "things"): (100_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "anderson", 40, 1, 1),
    ("deq-v1-h-demo", "things"): (120_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "anderson", 60, 1, 1),
    ("deq-v1-h", "chairs"): (120_000, 12, (368, 496), 4e-4, 1e-4, 0.8, "broyden", 42, 6, 1),
    ("deq-v1-h", "things"): (120_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "broyden", 42, 6, 3),
    ("deq-v1-h", "sintel"): (120_000, 6, (368, 768), 1.25e-4, 1e-4, 0.9, "broyden", 42, 6, 3),
    ("deq-v1-h", "kitti"): (50_000, 6, (288, 960), 1e-4, 1e-4, 0.9, "broyden", 42, 6, 1),
    ("deq-h-1x", "chairs"): (120_000, 12, (368, 496), 4e-4, 1e-4, 0.8, "fixed_point_iteration", 36, 6, 1),
    ("deq-h-1x", "things"): (120_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "fixed_point_iteration", 40, 2, 3),
    ("deq-h-1-step", "chairs"): (120_000, 12, (368, 496), 4e-4, 1e-4, 0.8, "fixed_point_iteration", 36, 1, 1),
    ("deq-h-1-step", "things"): (120_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "fixed_point_iteration", 40, 1, 1),
    ("deq-h-3x", "things"): (360_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "fixed_point_iteration", 40, 2, 3),
    ("deq-zoo-b", "chairs"): (120_000, 12, (368, 496), 4e-4, 1e-4, 0.8, "fixed_point_iteration", 36, 6, 1),
    ("deq-zoo-b", "things"): (120_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, "fixed_point_iteration", 40, 2, 3),
    ("raft", "chairs"): (100_000, 10, (368, 496), 4e-4, 1e-4, 0.8, None, 12, 12, None),
    ("raft", "things"): (100_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, None, 12, 12, None),
    ("raft", "sintel"): (100_000, 6, (368, 768), 1.25e-4, 1e-5, 0.85, None, 12, 12, None),
    ("raft", "kitti"): (50_000, 6, (288, 960), 1e-4, 1e-5, 0.85, None, 12, 12, None),
    ("gma", "chairs"): (120_000, 8, (368, 496), 2.5e-4, 1e-4, 0.8, None, 12, 12, None),
    ("gma", "things"): (120_000, 6, (400, 720), 1.25e-4, 1e-4, 0.8, None, 12, 12, None),
    ("gma", "sintel"): (120_000, 6, (368, 768), 1.25e-4, 1e-5, 0.85, None, 12, 12, None),
    ("gma", "kitti"): (50_000, 6, (288, 960), 1.25e-4, 1e-5, 0.85, None, 12, 12, None),
}
"""Steps, batch, crop, learning rate, weight decay, gamma, solver, evaluations, supervised states, phantom steps."""


@pytest.fixture(scope="module")
def paper() -> Flow:
    return config.check(Flow, PAPER, "flow")


@pytest.fixture(scope="module")
def smoke() -> Flow:
    return config.check(Flow, SMOKE, "flow")


@pytest.fixture(scope="module")
def data(smoke: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert isinstance(smoke.data, MiniConfig)
    root = tmp_path_factory.mktemp("data") / "flow"
    write_mini(root, replace(smoke.data, train_pairs=8))
    return root


def stage(profile: Flow, name: str) -> CurriculumStage:
    if name == "chairs":
        return CurriculumStage(methods=profile.methods, model=profile.model, train=profile.train)
    return getattr(profile.curriculum, name)


@pytest.mark.parametrize(("method", "name"), RELEASED)
def test_a_recipe_is_the_released_one(method: str, name: str, paper: Flow) -> None:
    recipe, model = stage(paper, name).train[method], stage(paper, name).model[method]
    optim = recipe.optim
    if isinstance(model, EquilibriumModel):
        kind, evaluations = model.layer.solver.kind, model.layer.stop.max_steps
        solved = (kind, evaluations, len(model.correction) + 1, getattr(model.layer.adjoint, "steps", None))
    else:
        solved = (None, model.steps, model.steps, None)
    crops = {member.augment.crop for member in recipe.mix}
    found = (recipe.steps, recipe.batch_size, *crops, optim.lr, optim.weight_decay, recipe.gamma, *solved)
    assert found == RELEASED[method, name]
    assert (optim.name, optim.schedule, optim.clip, optim.eps) == ("adamw", "onecycle", 1.0, 1e-8)
    assert recipe.freeze_batch_norm == (name != "chairs" and method != "gma")
    wide = "-h" in method and (method, name) != ("deq-v1-h-demo", "things")
    assert recipe.processes == (3 if wide else 2)


@pytest.mark.parametrize("method", ["deq-v1-h", "deq-v1-h-demo", "deq-h-1x"])
def test_the_flow_head_is_as_wide_as_its_release_had_it(method: str, paper: Flow) -> None:
    model = paper.model[method]
    assert isinstance(model, EquilibriumModel)
    with torch.device("meta"):
        network = build_network(model)
    assert network.update_block.flow_head.conv1.out_channels == (256 if "v1" in method else 512)


def test_the_released_mixes_are_those_of_the_spec(paper: Flow) -> None:
    mix = {member.data: member for member in paper.curriculum.sintel.train["raft"].mix}
    weights = {"sintel-clean": 100, "sintel-final": 100, "kitti": 200, "hd1k": 5, "things-clean": 1}
    assert {name: member.weight for name, member in mix.items()} == weights
    scales = {name: member.augment.scale for name, member in mix.items()}
    assert scales["sintel-clean"] == (-0.2, 0.6)
    assert scales["kitti"] == (-0.3, 0.5)
    assert scales["hd1k"] == (-0.5, 0.2)
    assert all(mix[name].augment.sparse and mix[name].augment.released_scatter for name in ("kitti", "hd1k"))
    assert mix["kitti"].augment.flip_chance == (0.5, 0.0)
    (kitti,) = paper.curriculum.kitti.train["raft"].mix
    assert kitti.augment.released_scatter
    assert kitti.augment.scale == (-0.2, 0.4)
    assert kitti.augment.flip_chance == (0.0, 0.0)


def test_each_stage_starts_from_the_weights_of_the_one_before(smoke: Flow, data: Path, tmp_path: Path) -> None:
    start = None
    for name in STAGES:
        recipe = stage(smoke, name).train["deq"]
        recipe = replace(recipe, steps=2, optim=replace(recipe.optim, lr=1e-9, schedule="constant"))
        out = tmp_path / name
        model = stage(smoke, name).model["deq"]
        arguments = {"seed": 0, "data": data, "scratch": tmp_path / "scratch" / name, "log": ignore}
        train(model, recipe, out=out, start=start, **arguments)
        if start is not None:
            before, after = (load_tensors(folder / "model.safetensors") for folder in (start, out))
            assert before.keys() == after.keys()
            for key, tensor in before.items():
                if "running" in key or "num_batches" in key:  # batch normalisation is frozen after FlyingChairs
                    assert tensor.equal(after[key]), key
                else:
                    torch.testing.assert_close(after[key], tensor, rtol=0, atol=1e-7, msg=key)
        start = out


def test_weights_of_another_network_are_refused(smoke: Flow, data: Path, tmp_path: Path) -> None:
    recipe = replace(smoke.train["deq"], steps=1)
    arguments = {"seed": 0, "data": data, "scratch": tmp_path / "scratch", "log": ignore}
    train(smoke.model["raft"], recipe, out=tmp_path / "raft", **arguments)
    with pytest.raises(CheckpointError, match=r"raft/model\.safetensors"):
        train(smoke.model["deq"], recipe, out=tmp_path / "deq", start=tmp_path / "raft", **arguments)


@pytest.mark.usefixtures("few_batches")
def test_a_recipe_may_take_bfloat16_averaged_weights_and_noise(smoke: Flow, data: Path, tmp_path: Path) -> None:
    recipe = replace(smoke.train["deq"], steps=2, precision="bfloat16", ema=0.5, noise=5.0, accumulate=2)
    newest = train(
        smoke.model["deq"], recipe, seed=0, data=data, out=tmp_path / "out", scratch=tmp_path / "scratch", log=ignore
    )
    assert newest["loss"] > 0
    assert newest["val_epe"] > 0


@pytest.mark.parametrize("frozen", [False, True])
def test_averaged_weights_have_statistics_of_their_own_unless_they_are_frozen(
    smoke: Flow, data: Path, tmp_path: Path, few_batches: int, frozen: bool
) -> None:
    recipe = replace(smoke.train["deq"], steps=2, ema=0.5, freeze_batch_norm=frozen)
    folders = {"data": data, "out": tmp_path / "out", "scratch": tmp_path / "scratch"}
    train(smoke.model["deq"], recipe, seed=0, log=ignore, **folders)
    encoder = load(tmp_path / "out").cnet
    expected = copy.deepcopy(encoder)
    if frozen:
        expected = build_network(smoke.model["deq"]).cnet
    else:
        mix = Mix(recipe.mix, open_sets(recipe.mix, data))
        stream = batches(mix, batch_size=recipe.micro_batch, augment=mix.augmentation, seed=0)(recipe.steps)
        update_bn((2 * (batch.image1 / 255) - 1 for batch in islice(stream, few_batches)), expected)
    for name, buffer in expected.named_buffers():
        assert torch.allclose(encoder.get_buffer(name), buffer, rtol=1e-4, atol=1e-6), name


def test_noise_has_a_random_strength_and_stays_within_the_range_of_images() -> None:
    torch.manual_seed(0)
    images = torch.full((2, 3, 40, 40), 128.0), torch.full((2, 3, 40, 40), 255.0)
    deviations = [float(noisy(images, 5.0)[0].std()) for _ in range(20)]
    assert max(deviations) < 5.5
    assert min(deviations) < 0.3 * max(deviations)
    assert noisy(images, 5.0)[1].max() <= 255


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"noise": -1.0}, "noise must be at least 0"),
        ({"mix": ()}, "mix must name at least one training set"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(change: dict, complaint: str, smoke: Flow) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(smoke.train["deq"], **change)


def test_a_stage_cannot_follow_one_that_was_not_trained(smoke: Flow) -> None:
    with pytest.raises(ValueError, match=r"sintel.methods: not in `things.methods`: deq"):
        replace(smoke.curriculum, things=replace(smoke.curriculum.things, methods=()))


def test_a_recipe_for_two_processes_is_trained_by_torchrun(
    smoke: Flow, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the command line becomes torchrun; that two processes train as one does is a law of the training loop."""
    recipe = config.plain(replace(smoke.train["deq"], batch_size=4, processes=2))
    params = {"flow": {**config.plain(smoke), "train": {"deq": recipe, "raft": recipe}}}
    monkeypatch.chdir(tmp_path)
    Path("two.json").write_text(json.dumps(params))
    monkeypatch.setattr(os, "execv", lambda program, words: sys.exit(" ".join(map(str, words[1:]))))
    given = ["train", "--method", "deq", "--data", str(data), "--out", "two", "--params", "two.json"]
    monkeypatch.setattr(sys, "argv", ["deq-flow", *given])
    with pytest.raises(SystemExit) as became:
        main()
    torchrun = "-m deq_core.experiment.distributed --standalone --nproc-per-node 2 -m deq_flow.cli "
    assert became.value.code == torchrun + " ".join(given)


class TestReleasedData:
    """A folder of released sets stands in for the pipeline's data through a manifest."""

    def settings(self, root: Path) -> ReleasedSets:
        return ReleasedSets(root=str(root), sets=("things", "hd1k"), complete=False)

    def test_training_reads_where_the_manifest_says(self, smoke: Flow, data: Path, tmp_path: Path) -> None:
        REGISTRY.prepare(tmp_path / "flow", self.settings(data / "Training"))
        assert located(tmp_path / "flow") == (data / "Training").resolve()
        listed = json.loads((tmp_path / "flow" / "manifest.json").read_text())["files"]
        assert {name.split("/")[0] for name in listed} == {"FlyingThings3D", "HD1k"}
        for name, size in listed.items():
            assert (data / "Training" / name).stat().st_size == size

    def test_a_damaged_set_is_named_by_file(self, data: Path, tmp_path: Path) -> None:
        root = tmp_path / "sets"
        shutil.copytree(data / "Training", root)
        damaged = next(iter(sorted(root.glob("HD1k/hd1k_flow_gt/flow_occ/*.png"))))
        damaged.unlink()
        with pytest.raises(LayoutError, match=damaged.name):
            REGISTRY.prepare(tmp_path / "flow", self.settings(root))
        assert not (tmp_path / "flow").exists()

    def test_a_recipe_of_the_paper_is_read_strictly(self, tmp_path: Path) -> None:
        (tmp_path / "params.yaml").write_text("train: {steps: 1}\n")
        with pytest.raises(config.ConfigError, match=r"train\.batch_size"):
            config.load(Train, tmp_path / "params.yaml", "train")
