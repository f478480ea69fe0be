"""Official checkpoints load by name, whatever wraps them, or are refused with everything that is wrong."""

import json
from pathlib import Path

import pytest
import torch
from tests.vision.parity import keys, released_state
from torch import Tensor

from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_vision import NAMES, VARIANTS, build, load, load_released, save
from deq_vision.cli import main
from deq_vision.models.compat.convert import from_released, official, renamed
from deq_vision.train import begin

LAYOUTS = sorted(keys())


def ours(layout: str) -> str:
    """Our name of a released variant."""
    return layout.lower().replace("_", "-")


def blank(layout: str) -> dict[str, Tensor]:
    """A state dict of the layout's names and shapes, which takes no memory to speak of."""
    return {name: torch.ones(()).expand(shape) for name, shape in keys()[layout]["keys"].items()}


def test_every_name_is_a_released_layout_or_a_miniature() -> None:
    assert {name for name in NAMES if not name.startswith("mini-")} == {ours(layout) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_released_layout_is_that_of_its_variant(layout: str) -> None:
    model = build(ours(layout))
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in renamed(blank(layout)).items()} == expected
    for name in keys()[layout]["keys"]:
        assert official(next(iter(renamed({name: torch.empty(())})))) == name
    parts = {"stem+inj": model.stem, "f (fullstage)": model.cell, "head": model.head}
    for part, module in parts.items():
        assert module is not None
        assert sum(parameter.numel() for parameter in module.parameters()) == keys()[layout]["parts"][part], part
    assert sum(parameter.numel() for parameter in model.parameters()) == keys()[layout]["params"]


# The larger ones differ from these in widths alone, and take a gigabyte.
@pytest.mark.parametrize(
    "layout", ["cifar_TINY", "cifar_LARGE", "imagenet_SMALL", "imagenet_SMALL_reg", "cityscapes_SMALL"]
)
def test_the_variant_is_found_from_names_and_shapes(layout: str) -> None:
    model = from_released(blank(layout))
    assert model.size == VARIANTS[ours(layout)].architecture
    assert model.equilibrium == VARIANTS[ours(layout)].equilibrium
    assert not model.training


def test_of_two_equal_layouts_the_one_that_is_named_is_taken() -> None:
    state = blank("cifar_LARGE_reg")
    assert from_released(state).size.dropout == 0.3
    model = from_released(state, "cifar-large-reg")
    assert model.size.dropout == 0.22
    assert model.equilibrium.stop.max_steps == 8


def test_another_number_of_classes_is_no_obstacle() -> None:
    state = blank("cifar_TINY")
    state["classifier.weight"], state["classifier.bias"] = torch.ones(100, 200), torch.ones(100)
    assert from_released(state)(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 100)


def released(layout: str = "cifar_TINY") -> dict[str, Tensor]:
    return {
        name: value.float() if value.is_floating_point() else value for name, value in released_state(layout).items()
    }


WRAPPERS = {
    "bare": lambda state: state,
    "data parallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "with its loss": lambda state: {
        **{f"model.{name}": value for name, value in state.items()},
        "loss.criterion.weight": torch.ones(19),
    },
    "both": lambda state: {
        **{f"module.model.{name}": value for name, value in state.items()},
        "module.loss.criterion.weight": torch.ones(19),
    },
    "parametrised": lambda state: {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value
        for name, value in state.items()
    },
    "without counters": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    "resumable": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"param_groups": []}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_file_loads_whatever_wraps_its_tensors(wrapper: str, tmp_path: Path) -> None:
    path = tmp_path / "MDEQ_TINY_cls.pth.tar"
    torch.save(WRAPPERS[wrapper](released()), path)
    expected = from_released(released()).state_dict()
    torch.testing.assert_close(load(path).state_dict(), expected, rtol=0, atol=0)


def test_a_loaded_model_shares_no_memory_with_the_state() -> None:
    state = released()
    with torch.no_grad():
        from_released(state).stem.get_parameter("layers.0.conv.weight").zero_()
    assert state["downsample.0.weight"].abs().max() > 0


def test_a_loaded_model_is_single_precision_unless_its_file_is_double() -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in released().items()}
    assert {p.dtype for p in from_released(half).parameters()} == {torch.float32}
    assert {p.dtype for p in from_released(released_state("cifar_TINY")).parameters()} == {torch.float64}


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "tiny.pth")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = load(tmp_path / "tiny.pth")
    save(tmp_path / "model.safetensors", model)
    load(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_wrong_file_is_refused_with_everything_that_is_wrong(tmp_path: Path) -> None:
    state = released()
    del state["fullstage.branches.1.blocks.0.conv2.weight_v"], state["incre_modules.0.0.bn3.running_var"]
    state["fullstage.transition.weight"] = torch.ones(3)
    state["fullstage.fuse_layers.1.0.net.0.gnorm.bias"] = torch.ones(7)
    path = tmp_path / "wrong.pth"
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    for part in (
        "wrong.pth: not an official MDEQ checkpoint known here; against the closest, cifar-tiny:",
        "missing fullstage.branches.1.blocks.0.conv2.weight_v (24, 120, 3, 3)",
        "missing incre_modules.0.0.bn3.running_var (32,)",
        "unexpected fullstage.transition.weight (3,)",
        "misshapen fullstage.fuse_layers.1.0.net.0.gnorm.bias: expected (24,), got (7,)",
    ):
        assert part in message
    assert len(message.splitlines()) == 5


def test_of_another_models_tensors_what_is_expected_is_said_without_a_comparison(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"layer1.0.conv1.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: expected an official MDEQ checkpoint, with tensors such as "
        "fullstage.branches.0.blocks.0.gn3.weight, got a dictionary with layer1.0.conv1.weight"
    )


def test_a_file_without_the_norms_of_a_branch_is_compared_with_its_own_variant() -> None:
    state = {name: value for name, value in blank("cifar_TINY").items() if ".branches.1.blocks.0.gn" not in name}
    with pytest.raises(CheckpointError, match=r"against the closest, cifar-tiny:\n  missing .*gn1\.weight") as caught:
        from_released(state)
    assert len(str(caught.value).splitlines()) == 7


def test_training_may_start_from_an_official_file(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "tiny.pth")
    model = build("cifar-tiny")
    begin(model, tmp_path / "tiny.pth")
    wanted = load_released(tmp_path / "tiny.pth").state_dict()
    assert all(value.equal(wanted[name]) for name, value in model.state_dict().items())


def test_the_command_writes_what_load_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "tiny.pth", tmp_path / "converted" / "model.safetensors"
    torch.save(released(), source)
    main(["convert", str(source), str(out)])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"parameters": 158890}
    converted, direct = load(out), load(source)
    assert converted.size == direct.size
    assert converted.equilibrium == direct.equilibrium
    torch.testing.assert_close(converted.state_dict(), direct.state_dict(), rtol=0, atol=0)


def test_the_command_explains_a_file_it_cannot_convert(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"deq-vision: .*missing\.pth: no such checkpoint"):
        main(["convert", str(tmp_path / "missing.pth"), str(tmp_path / "out.safetensors")])
    torch.save(released(), tmp_path / "tiny.pth")
    with pytest.raises(SystemExit, match=r"deq-vision: .*unknown variant 'huge'"):
        main(["convert", str(tmp_path / "tiny.pth"), str(tmp_path / "out.safetensors"), "--variant", "huge"])
