"""A checkpoint gives back the same bits, or an error that names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config.optim import OptimConfig
from deq_core.experiment.files import OutputError


class Network(nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(2, width))
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 2).double()


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    own = model.state_dict()
    assert own.keys() == tensors.keys()
    assert all(own[name].dtype == tensors[name].dtype and own[name].equal(tensors[name]) for name in own)


def test_weights_and_buffers_come_back_bit_by_bit(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model, other = Network(), Network()
    checkpoint.save(path, model, OptimConfig(lr=0.5))
    checkpoint.load_into(other, checkpoint.load_tensors(path))
    assert_equal(other, tensors_of(model))
    assert json.loads((tmp_path / "config.json").read_text())["lr"] == 0.5
    assert checkpoint.load_config(path)["lr"] == 0.5


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    model = Network()
    found = set()
    for _ in range(10):  # a header in random order is in the same order half of the time
        checkpoint.save(tmp_path / "model.safetensors", model, {})
        found.add((tmp_path / "model.safetensors").read_bytes())
    assert len(found) == 1


def test_weights_do_not_take_the_configuration_of_others_in_their_folder(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.safetensors", Network(), OptimConfig(lr=0.5))
    checkpoint.save(tmp_path / "b.safetensors", Network(), OptimConfig(lr=0.5))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name, other in (("a", "b"), ("c", "a")):
        with pytest.raises(OutputError, match=rf"config\.json belongs to {other}\.safetensors, another network"):
            checkpoint.save(tmp_path / f"{name}.safetensors", Network(), OptimConfig(lr=0.25))
    with pytest.raises(CheckpointError, match=r"model\.pth: a checkpoint is a \.safetensors file"):
        checkpoint.save(tmp_path / "model.pth", Network(), {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "b.safetensors").unlink()
    checkpoint.save(tmp_path / "a.safetensors", Network(), OptimConfig(lr=0.25))


def test_a_shared_tensor_stays_shared(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)
            self.two.weight = self.one.weight

    model, other = Tied(), Tied()
    checkpoint.save(tmp_path / "model.safetensors", model, {})
    checkpoint.load_into(other, checkpoint.load_tensors(tmp_path / "model.safetensors"))
    assert_equal(other, tensors_of(model))
    assert other.one.weight is other.two.weight


def test_every_misfit_is_listed_in_one_error() -> None:
    tensors = tensors_of(Network(3))
    del tensors["last.bias"]
    tensors["stray"] = torch.zeros(4)
    model = Network(5)
    before = tensors_of(model)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_into(model, tensors, source="model.safetensors")
    lines = str(caught.value).splitlines()
    assert lines[0] == "model.safetensors does not fit Network:"
    assert "  missing last.bias (2,)" in lines
    assert "  unexpected stray (4,)" in lines
    assert "  misshapen last.weight: expected (2, 5), got (2, 3)" in lines
    assert_equal(model, before)


HOW: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "empty": lambda data: b"",
    "flipped bit in the middle": lambda data: flipped(data, len(data) // 2),
    "flipped bit at the end": lambda data: flipped(data, len(data) - 1),
    "text": lambda data: b"not found",
}


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("how", HOW)
def test_damaged_weights_are_refused_by_name(tmp_path: Path, how: str) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, nn.Linear(64, 64), {})
    path.write_bytes(HOW[how](path.read_bytes()))
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint.load_tensors(path)


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, how: str) -> None:
    path = tmp_path / "training.pt"
    checkpoint.save_state(path, {"weights": torch.rand(64), "step": 3})
    path.write_bytes(HOW[how](path.read_bytes()))
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint.load_state(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    for load in (checkpoint.load_tensors, checkpoint.load_state):
        with pytest.raises(CheckpointError, match=r"nowhere: no such checkpoint"):
            load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        checkpoint.load_config(tmp_path / "nowhere")


def test_weights_of_another_program_need_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file({"a": torch.arange(3)}, path)
    assert checkpoint.load_tensors(path)["a"].tolist() == [0, 1, 2]


def test_a_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    state = {"tensors": {"a": torch.rand(3, dtype=torch.float64)}, "history": [{"loss": 0.1}], "none": None, "on": True}
    checkpoint.save_state(path, state)
    found = checkpoint.load_state(path)
    assert found["tensors"]["a"].equal(state["tensors"]["a"])
    assert {key: found[key] for key in ("history", "none", "on")} == {
        "history": [{"loss": 0.1}],
        "none": None,
        "on": True,
    }


def test_a_state_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    checkpoint.save_state(path, {"model": nn.Linear(1, 1)})
    with pytest.raises(CheckpointError, match=r"training\.pt: not the state of a training"):
        checkpoint.load_state(path)


def test_misfits_are_told_in_the_words_of_the_reader() -> None:
    there = {"a": torch.zeros(2), "b": torch.zeros(3)}
    expected = {"b": torch.zeros(4), "c": torch.zeros(5)}
    assert checkpoint.misfits(there, expected, name=str.upper) == [
        "missing C (5,)",
        "unexpected A (2,)",
        "misshapen B: expected (4,), got (3,)",
    ]
    assert checkpoint.misfits(there, there) == []
