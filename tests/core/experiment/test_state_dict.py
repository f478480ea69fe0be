"""The tensors of a network come out of what training programs save, whatever wrapped it."""

import io
from typing import Any

import pytest
import torch
from torch import nn

from deq_core.experiment.checkpoints.state_dict import state_dict
from deq_core.experiment.errors import CheckpointError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "head": nn.Linear(3, 1)})


def names_of(wrapped: nn.Module) -> list[str]:
    return sorted(state_dict(wrapped.state_dict()))


OWN = sorted(network().state_dict())
PREFIXES = (
    "",
    "_orig_mod.",
    "module.",
    "model.",
    "net.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model._orig_mod.module.",
    "_fsdp_wrapped_module.",
    "_forward_module.model.",
    "trainer.flow_network._orig_mod.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_wrappers_are_left_out_in_any_nesting(prefix: str) -> None:
    state = {prefix + name: value for name, value in network().state_dict().items()}
    assert list(state_dict(state)) == list(network().state_dict())


def test_real_wrappers_are_undone() -> None:
    assert names_of(torch.compile(network(), backend="eager")) == OWN  # pyright: ignore[reportArgumentType]  # a module, typed otherwise
    assert names_of(nn.DataParallel(network())) == OWN
    assert names_of(torch.optim.swa_utils.AveragedModel(nn.DataParallel(network()))) == OWN
    partly = network()
    partly["encoder"] = torch.compile(nn.DataParallel(partly["encoder"]), backend="eager")  # pyright: ignore[reportIndexIssue]
    assert names_of(partly) == OWN


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "epoch": 3},
        lambda state: {"model": state, "ema": {name: value + 1 for name, value in state.items()}},
        lambda state: {"network": {"state_dict": state}, "step": torch.tensor(3)},
        lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}, "hyper": {"lr": 0.1}},
        lambda state: {"raft": state, "loss": 0.5},
        lambda state: {**{f"model.{name}": value for name, value in state.items()}, "loss.weight": torch.ones(3)},
    ],
)
def test_what_lies_beside_a_network_is_left_alone(wrap: Any) -> None:
    buffer = io.BytesIO()
    torch.save(wrap(network().state_dict()), buffer)
    buffer.seek(0)
    found = state_dict(torch.load(buffer, weights_only=True))
    assert all(torch.equal(found[name], value) for name, value in network().state_dict().items())
    assert sorted(found) == OWN


def test_two_tensors_that_would_have_one_name_are_refused_by_both() -> None:
    state = network().state_dict()
    state["head._orig_mod.weight"] = state["head.weight"]
    with pytest.raises(CheckpointError, match=r"head\.weight and head\._orig_mod\.weight of the file are both"):
        state_dict(state)


def test_of_several_networks_none_is_chosen() -> None:
    state = network().state_dict()
    with pytest.raises(CheckpointError, match="several, under 'first', 'second'"):
        state_dict({"first": state, "second": state})


LOOP: dict[str, Any] = {}
LOOP |= {"model": LOOP, "epoch": LOOP}
DEEP: dict[str, Any] = {"epoch": 3}
for _ in range(5000):
    DEEP = {"model": DEEP}


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (LOOP, "got one with 'model': dict"),
        (DEEP, "got one with 'model': dict"),
        ([1], "got list"),
        ({}, "got an empty one"),
        ({"epoch": 3}, "got one with 'epoch': int"),
        ({0: torch.ones(1)}, "got one with keys that are no names"),
    ],
)
def test_what_holds_no_network_is_refused_by_what_it_is(content: Any, got: str) -> None:
    with pytest.raises(CheckpointError, match=f"expected a dictionary of tensors .*{got}"):
        state_dict(content)
