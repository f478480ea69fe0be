"""Models by name and from files, with the choices that may be replaced."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import deq_core as deq
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_vision import MDEQ, NAMES, VARIANTS, Segmentation, build, load, save
from deq_vision.models import model_config


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("mini-")])
def test_miniatures_run_on_their_images(name: str) -> None:
    model, size = build(name), VARIANTS[name].architecture
    images = torch.randn(2, 3, *((32, 32) if "digits" in name else (64, 128)))
    value, solution = model.features(images)
    assert all(z.isfinite().all() for z in value)
    assert solution.residual.isfinite().all()
    if size.head is not None:
        assert model(images).logits.shape[1] == size.head.classes
    assert sum(parameter.numel() for parameter in model.parameters()) < 300_000


def test_segmentation_is_at_a_quarter_of_the_images_resolution() -> None:
    model = build("cityscapes-small", stop=deq.Stop(1, None))
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 64, 128)).logits.shape == (1, 19, 16, 32)


def test_the_releases_spelling_of_a_name_is_understood() -> None:
    assert build("cifar_TINY").size == build("cifar-tiny").size


def test_everything_may_be_overridden() -> None:
    solver, adjoint = deq.Anderson(), deq.Phantom(steps=2)
    model = build("cifar-tiny", solver=solver, adjoint=adjoint, numerics="core", dropout=0.1, channels=(16, 16))
    assert (model.equilibrium.solver, model.equilibrium.adjoint) == (solver, adjoint)
    assert (model.size.dropout, model.size.channels) == (0.1, (16, 16))
    assert build("cifar-tiny", classes=3)(torch.randn(2, 3, 32, 32), steps=1).logits.shape == (2, 3)
    assert build("cifar-tiny", head=Segmentation(classes=4))(torch.randn(2, 3, 32, 32), steps=1).logits.shape[1] == 4


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown model 'resnet'; known are cifar-tiny"):
        build("resnet")
    with pytest.raises(ValueError, match="no option width; it has adjoint"):
        build("cifar-tiny", width=3)
    with pytest.raises(ValueError, match="no option width; it has variant"):
        load("anywhere", width=3)
    with pytest.raises(ValueError, match=r"head\.classes: expected at least 1, got 0"):
        build("cifar-tiny", classes=0)


def mini(**choices: object) -> MDEQ:
    return build("mini-digits", **choices)


CHOICES = {
    "as built": {},
    "core": {
        "solver": deq.Anderson(window=3),
        "stop": deq.Stop(7, None, relative=False, norm=deq.rms_norm),
        "eval_stop": deq.Stop(9, 1e-2, norm=deq.max_norm),
        "adjoint": deq.Phantom(steps=2, damping=0.1),
    },
    "released": {
        "solver": deq.Broyden(),
        "adjoint": deq.Implicit(solver=deq.Broyden(memory=5), stop=deq.Stop(3, 1e-3), on_failure="raise"),
        "numerics": "released",
    },
    "strict": {
        "solver": deq.GMRES(memory=3),
        "adjoint": deq.JacobianFree(),
        "stop": deq.Stop(3, None),
        "on_failure": "raise",
    },
    "unrolled": {"solver": deq.FixedPointIteration(damping=0.2), "adjoint": deq.Unrolled()},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_saved_model_comes_back_as_it_was(choice: str, tmp_path: Path) -> None:
    model = mini(**CHOICES[choice]).eval()
    save(tmp_path / "model.safetensors", model)
    for place in (tmp_path, str(tmp_path / "model.safetensors")):
        again = load(place)
        assert not again.training
        assert again.size == model.size
        assert again.equilibrium == model.equilibrium
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(again(images).logits, model(images).logits)


def test_the_solver_of_a_loaded_model_may_be_another(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", mini())
    model = load(tmp_path, solver=deq.FixedPointIteration(), stop=deq.Stop(3, None))
    with torch.no_grad():
        solution = model(torch.randn(1, 3, 32, 32)).solution
    assert isinstance(model.equilibrium.solver, deq.FixedPointIteration)
    assert len(solution.trace) == 3  # the stop is for evaluation too
    both = load(tmp_path, stop=deq.Stop(3, None), eval_stop=deq.Stop(5, None))
    assert both.equilibrium.eval_stop == deq.Stop(5, None)


@dataclass(frozen=True)
class Own(deq.FixedPointIteration):
    """A solver of a user's own."""


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for choice, word in (
        ({"solver": Own()}, "Own"),
        ({"adjoint": deq.SHINE()}, "SHINE"),
        ({"adjoint": deq.Implicit(solver=Own())}, "Own"),
        ({"stop": deq.Stop(3, norm=lambda x: x.norm(dim=1))}, "the norm"),
    ):
        (name,) = choice
        with pytest.raises(ValueError, match=rf"^{name}.*: a configuration cannot express {word}"):
            model_config(mini(**choice))
    with pytest.raises(ValueError, match="cannot express"):
        save(tmp_path / "model.safetensors", mini(solver=Own()))
    assert not list(tmp_path.iterdir())


def test_places_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"nowhere: no such checkpoint.* shipped \(digits, street, detect\)",
    ):
        load("nowhere")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such checkpoint"):
        load(tmp_path)
    save(tmp_path / "model.safetensors", mini())
    with pytest.raises(ValueError, match="variant is for official files"):
        load(tmp_path, variant="cifar-tiny")
    config = json.loads((tmp_path / "config.json").read_text())
    config["architecture"]["depth"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"architecture\.depth"):
        load(tmp_path)
    config["architecture"] |= {"channels": [32, 32]}
    del config["architecture"]["depth"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit MDEQ"):
        load(tmp_path)


def test_variants_are_made_by_replacing() -> None:
    tiny = VARIANTS["cifar-tiny"].architecture
    assert replace(tiny, channels=(24, 24)) == tiny
    assert tiny.with_classes(10) == tiny
    assert replace(tiny, head=None).with_classes(3).head is None


@pytest.mark.parametrize("sizes", [{"halvings": 2**62}, {"channels": [2**40, 2**40]}, {"expansion": 10**9}])
def test_a_configuration_of_any_size_is_compared_with_the_file_before_memory_is_taken(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    save(tmp_path / "model.safetensors", build("mini-street", channels=(8, 8)))
    config = json.loads((tmp_path / "config.json").read_text())
    config["architecture"] |= sizes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"model\.safetensors(: no network has| does not fit)"):
        load(tmp_path)
