"""The checkpoint that comes with the package, and the recipe that made it."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import deq_core as deq
import deq_flow
from deq_core.experiment import config
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.data.images import encode
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.data.photographs import VALIDATION, load_all, load_listed, motorcycle
from deq_core.experiment.errors import UserError
from deq_core.experiment.files import write_json
from deq_core.experiment.tables import read_rows
from deq_core.experiment.tracking.log import ignore
from deq_flow.commands import shipped as commands
from deq_flow.data.augment import AugmentConfig
from deq_flow.data.batches import FlowBatch
from deq_flow.data.mini.generated import Generated, GeneratedConfig
from deq_flow.data.mini.write import blocks
from deq_flow.inference import Estimator
from deq_flow.metrics import epe
from deq_flow.networks import SHIPPED
from deq_flow.params import EquilibriumModel
from deq_flow.training.shipped import WATCHED_WITH, Phase, Shipped, train_shipped

PHASE = Phase(
    layer=LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=2), adjoint=deq.Phantom(steps=1)),
    correction=(1,),
    pairs=3,
    steps=2,
    batch_size=2,
    optim=OptimConfig(lr=1e-3, clip=1.0),
    augment=AugmentConfig(crop=(16, 24), eraser_chance=0.0, margin=1),
    ema=0.5,
)
RECIPE = Shipped(
    network="deq-flow-mini",
    data=GeneratedConfig(height=24, width=32),
    validation_pairs=2,
    phases=(PHASE, replace(PHASE, pairs=4)),
    every=Every(log=1),
)


def trained(recipe: Shipped, root: Path, name: str) -> dict[str, Tensor]:
    """The weights that a recipe comes to."""
    train_shipped(recipe, seed=0, out=root / name, scratch=root / f"{name}-scratch", log=ignore)
    return deq_flow.load(root / name).state_dict()


@pytest.mark.usefixtures("few_batches")
def test_training_is_a_function_of_the_seed_and_its_phases_follow_each_other(tmp_path: Path) -> None:
    whole = trained(RECIPE, tmp_path, "whole")
    (tmp_path / "again-scratch").mkdir()
    (tmp_path / "whole-scratch" / "phase-1").rename(tmp_path / "again-scratch" / "phase-1")
    again = trained(RECIPE, tmp_path, "again")
    assert all(torch.equal(whole[name], again[name]) for name in whole), "resumed after the first phase"
    history = (tmp_path / "whole" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 4
    alone = trained(replace(RECIPE, phases=RECIPE.phases[1:]), tmp_path, "alone")
    assert any(not torch.equal(whole[name], alone[name]) for name in whole), "the second starts from the first"


def test_only_a_network_with_a_fixed_point_is_trained() -> None:
    with pytest.raises(ValueError, match="expected a name such as deq-flow-compact, got 'raft-mini'"):
        replace(RECIPE, network="raft-mini")


def test_the_recipe_beside_the_shipped_checkpoint_makes_such_a_network() -> None:
    recipe = config.load(Shipped, SHIPPED["default"] / "recipe.yaml")
    stored = config.load(EquilibriumModel, SHIPPED["default"] / "config.json")
    assert recipe.model(recipe.phases[-1]) == stored


def test_the_shipped_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED["default"].rglob("*")) < 12e6


def test_it_sees_the_motion_of_photographs_it_has_never_seen() -> None:
    network = deq_flow.load("default")
    recipe = GeneratedConfig(seed=7, height=96, width=128)
    pairs = Generated(recipe, load_all(VALIDATION), kind=WATCHED_WITH, count=8)
    batch = FlowBatch.collate([pairs[index] for index in range(8)])
    with torch.no_grad():
        flow = network(batch.image1, batch.image2).flow
    assert epe(flow, batch.flow, batch.valid).mean() < 0.35 * batch.flow.norm(dim=1).mean()


def test_it_sees_the_motion_in_a_real_pair() -> None:
    left, right, disparity = motorcycle()
    images = [
        torch.from_numpy(blocks(image.astype("float32"), 4).mean(axis=2)).permute(2, 0, 1)[None]
        for image in (left, right)
    ]
    truth = -torch.from_numpy(blocks(disparity, 4)).median(dim=2).values / 4
    valid = truth.isfinite()
    with torch.no_grad():
        flow = deq_flow.load("default")(*images).flow[0]
    error = torch.hypot(flow[0] - truth, flow[1])[valid].mean()
    assert error < 0.2 * truth[valid].abs().mean()


def test_listed_photographs_are_the_listed_ones(tmp_path: Path) -> None:
    listing, folder = tmp_path / "photographs.csv", tmp_path / "package"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    encode(folder / "a.png", pixels[:, :, ::-1])
    digest = hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    listing.write_text(f"package,file,sha256\nsome,package/a.png,{digest}\n")
    assert np.array_equal(load_listed(listing, tmp_path, 50)[0], pixels)
    assert load_listed(listing, tmp_path, 25)[0].shape == (15, 25, 3)
    large = np.zeros((4096, 4096, 3), dtype=np.uint8)  # a small file of many pixels, which other readers refuse
    encode(folder / "a.png", large)
    listing.write_text(f"file,sha256\npackage/a.png,{hashlib.sha256((folder / 'a.png').read_bytes()).hexdigest()}\n")
    assert load_listed(listing, tmp_path, 64)[0].shape == (64, 64, 3)
    listing.write_text(f"file,sha256\npackage/a.png,{digest}\n")
    with pytest.raises(LayoutError, match=f"a.png: expected SHA-256 {digest}"):
        load_listed(listing, tmp_path, 50)
    (folder / "a.png").unlink()
    with pytest.raises(LayoutError, match=r"a.png: no such file, one of the 1 photographs"):
        load_listed(listing, tmp_path, 50)
    for table in ("file,sha256\n", "path,sha256\npackage/a.png,0\n", "file,sha256\npackage/a.png,\n"):
        listing.write_text(table)
        with pytest.raises(LayoutError, match=r"photographs\.csv: expected the columns file and sha256"):
            load_listed(listing, tmp_path, 50)


def test_without_a_list_all_images_of_a_folder_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "recipe.yaml", config.plain(replace(RECIPE, photograph_side=40)))
    folder = tmp_path / "mine"
    folder.mkdir()
    given: dict[str, Any] = {"params": tmp_path / "recipe.yaml", "photographs": folder, "out": tmp_path / "out"}
    with pytest.raises(UserError, match=r"--photographs: expected a folder of images \(.bmp, .*, got .*mine"):
        commands.train_shipped(**given)
    for number, side in enumerate((20, 80)):
        encode(folder / f"{number}.png", np.full((side, side, 3), (0, 0, 50 * number), dtype=np.uint8))
    seen: list[np.ndarray] = []
    monkeypatch.setattr(commands, "train", lambda *_, photographs, **__: seen.extend(photographs) or {})
    commands.train_shipped(**given)
    assert [image.shape for image in seen] == [(20, 20, 3), (40, 40, 3)]
    assert seen[1][0, 0].tolist() == [50, 0, 0]


def test_the_shipped_recipe_lists_its_photographs_once_with_their_licences() -> None:
    rows = read_rows(SHIPPED["default"] / "photographs.csv")
    assert len({row["sha256"] for row in rows}) == len({row["file"] for row in rows}) == len(rows)
    assert all(row["package"] and row["version"] and row["licence"] for row in rows)


def test_where_nothing_moves_it_sees_no_motion() -> None:
    (photograph,) = load_all(VALIDATION[:1])
    image = torch.from_numpy(photograph[:120, :160]).permute(2, 0, 1)[None]
    assert Estimator(deq_flow.load("default"))(image, image).flow.norm(dim=1).mean() < 0.03
