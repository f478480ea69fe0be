"""Released checkpoints load by name, whatever their naming, or are refused with everything that is wrong."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.parity import recorded, released_state
from torch import Tensor

from deq_flow.models import RAFT, CheckpointError
from deq_flow.models.compat.convert import from_released, load_released, renamed

KEYS = recorded("keys")


def released(variant: str) -> dict[str, Tensor]:
    """A state dict of the variant's names and shapes, without numbers to speak of."""
    return {name: torch.ones(shape, dtype=getattr(torch, dtype)) for name, shape, dtype in KEYS[variant]["keys"]}


def test_a_file_loads_and_its_numbers_arrive(tmp_path: Path) -> None:
    state = released_state("raft_small")
    path = tmp_path / "raft-small.pth"
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    model = load_released(path, eval_steps=3)
    assert isinstance(model, RAFT)
    assert model.eval_steps == 3
    assert not model.training
    assert torch.equal(model.update_block.flow_head.conv2.weight, state["update_block.flow_head.conv2.weight"])
    assert model.update_block.flow_head.conv2.weight.requires_grad


def test_the_network_does_not_share_memory_with_the_state() -> None:
    state = released_state("raft_small")
    with torch.no_grad():
        from_released(state).fnet.conv1.weight.zero_()
    assert state["fnet.conv1.weight"].abs().max() > 0


def weights(model: Any) -> dict[str, Tensor]:
    """Every convolution's weight as it acts."""
    return {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, torch.nn.Conv2d)}


@pytest.mark.parametrize("variant", ["v2_tiny_gma", "v1_small"])
def test_weight_normalisation_can_be_resolved_and_introduced(variant: str) -> None:
    state = released_state(variant)
    normed = from_released(state)
    resolved = from_released(state, weight_norm=False)
    assert not any("original" in name for name in resolved.state_dict())
    again = from_released(resolved.state_dict(), weight_norm=True)
    assert any("original" in name for name in again.state_dict())
    expected = weights(normed)
    for model in (resolved, again):
        torch.testing.assert_close(weights(model), expected, rtol=1e-6, atol=1e-7)


def test_our_own_names_are_accepted_too() -> None:
    model = from_released(released_state("v2_tiny"))
    torch.testing.assert_close(from_released(model.state_dict()).state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("dropped", [r"\.norm3\.", r"\.downsample\.1\.", r"num_batches_tracked"])
def test_one_name_of_a_shared_norm_and_missing_counters_suffice(dropped: str) -> None:
    state = released_state("v2_tiny")
    partial = {name: value for name, value in state.items() if not re.search(dropped, name)}
    assert len(partial) < len(state)
    torch.testing.assert_close(from_released(partial).state_dict(), from_released(state).state_dict(), rtol=0, atol=0)


def torchvision_name(name: str) -> str:
    """The name torchvision's RAFT has for a parameter of the original."""
    encoder = re.match(r"([fc])net\.(.*)", name)
    if encoder:
        part = {"f": "feature_encoder", "c": "context_encoder"}[encoder[1]]
        inner = re.sub(r"^conv1\.", "convnormrelu.0.", encoder[2])
        inner = re.sub(r"^norm1\.", "convnormrelu.1.", inner)
        inner = re.sub(r"^conv2\.", "conv.", inner)
        inner = re.sub(r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0.", inner)
        inner = re.sub(r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1.", inner)
        return f"{part}.{inner}"
    name = re.sub(r"encoder\.convc(\d)\.", r"motion_encoder.convcorr\1.0.", name)
    name = re.sub(r"encoder\.convf(\d)\.", r"motion_encoder.convflow\1.0.", name)
    name = name.replace(".encoder.conv.", ".motion_encoder.conv.0.")
    name = re.sub(r"gru\.conv([zrq])(\d?)\.", lambda m: f"recurrent_block.convgru{m[2] or 1}.conv{m[1]}.", name)
    name = name.replace("update_block.mask.0.", "mask_predictor.convrelu.0.")
    return name.replace("update_block.mask.2.", "mask_predictor.conv.")


@pytest.mark.parametrize("variant", ["raft", "raft_small"])
def test_torchvision_names_load(variant: str) -> None:
    state = {name: value for name, value in released_state(variant).items() if ".norm3." not in name}
    foreign = {torchvision_name(name): value for name, value in state.items()}
    assert foreign.keys() & state.keys() <= {name for name in state if "flow_head" in name}
    torch.testing.assert_close(renamed(foreign), renamed(state), rtol=0, atol=0)
    assert from_released(foreign).size == from_released(state).size


def test_a_wrong_file_is_refused_with_everything_that_is_wrong() -> None:
    state = released("v2_b")
    del state["fnet.layer1.0.conv1.bias"], state["mask.0.weight"]
    state["colour.weight"] = torch.ones(3)
    state["cnet.conv1.bias"] = torch.ones(7)
    with pytest.raises(CheckpointError) as caught:
        from_released(state)
    message = str(caught.value)
    for problem in (
        "missing fnet.layer1.0.conv1.bias (64,)",
        "missing mask.0.weight (256, 128, 3, 3)",
        "unexpected colour.weight (3,)",
        "misshapen cnet.conv1.bias: expected (64,), got (7,)",
    ):
        assert problem in message
    assert len(message.splitlines()) == 5


def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.pth: not a complete checkpoint"):
        load_released(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match=r"other\.pth: expected a dictionary of tensors .* got list"):
        load_released(path)


def test_options_of_the_other_family_are_refused() -> None:
    with pytest.raises(ValueError, match="no option solver"):
        from_released(released("raft_small"), solver=None)
    with pytest.raises(ValueError, match="no option steps"):
        from_released(released("v2_tiny"), steps=3)
