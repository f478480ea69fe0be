"""Averaged weights are measured and returned with batch statistics of their own, at no cost where there are none."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.core.experiment.lesson import lesson
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import update_bn

from deq_core.experiment.checkpoints.checkpoint import CheckpointError, load_state, save_state
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.training import averaging
from deq_core.experiment.training.fit import Losses, fit

ROOT = Path(__file__).parents[3]
KINDS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Pictures = tuple[Tensor, Tensor]


def pictures(seed: int, count: int = 64) -> Pictures:
    """Noisy pictures (N, 3, 8, 8) of four kinds, and which they are of."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    return KINDS[labels] + torch.randn(count, 3, 8, 8, generator=generator), labels


def batches(start: int) -> Iterator[Pictures]:
    while True:
        yield pictures(100 + start)
        start += 1


def objective(model: nn.Module, batch: Pictures) -> Losses:
    return Losses(nn.functional.cross_entropy(model(batch[0]), batch[1]))


HELD_OUT = pictures(7, 2000)


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    found = model.eval()(HELD_OUT[0]).argmax(1)
    return (found == HELD_OUT[1]).float().mean().item()


def network(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        weight_norm(nn.Conv2d(3, 16, 3, padding=1)),
        norm(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        norm(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    ).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stub lacks the keyword alone


def own_statistics(model: nn.Module) -> nn.Module:
    """A copy of `model` with torch's own estimate on other batches than training had."""
    own = copy.deepcopy(model)
    update_bn([pictures(10_000 + number)[0] for number in range(100)], own)
    return own


def test_averaged_weights_are_as_good_as_with_torch_s_own_statistics(tmp_path: Path) -> None:
    model = network(lambda width: nn.BatchNorm2d(width, momentum=0.01))
    measured: list[tuple[float, float]] = []

    def measure(averaged: nn.Module) -> dict[str, float]:
        measured.append((accuracy(averaged), accuracy(own_statistics(averaged))))
        return {}

    optim, every = OptimConfig(name="sgd", lr=0.3, momentum=0.9), Every(log=50, evaluate=30)
    recipe = Updates(optim=optim, steps=60, every=every, ema=0.9)
    fit(model, batches, objective, recipe, seed=0, scratch=tmp_path, evaluate=measure)
    assert measured[-1][0] == accuracy(model) > 0.9
    assert accuracy(model) == pytest.approx(accuracy(own_statistics(model)), abs=1e-3)
    # half-way through the average is of weights far apart, and batches decide a few pictures in a thousand
    assert measured[0][0] == pytest.approx(measured[0][1], abs=5e-3)


def test_statistics_are_torch_s_own_of_the_next_batches(tmp_path: Path) -> None:
    model = network()
    optim = OptimConfig(name="sgd", lr=0.3, momentum=0.9)
    fit(model, batches, objective, Updates(optim=optim, steps=30, ema=0.99, accumulate=2), seed=0, scratch=tmp_path)
    expected = copy.deepcopy(model)
    update_bn([pictures(100 + 60 + number)[0] for number in range(averaging.BATCHES)], expected)
    for name, buffer in expected.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
    assert [layer.momentum for layer in model if isinstance(layer, nn.BatchNorm2d)] == [0.1, 0.1]


class Frozen(nn.Sequential):
    """A network whose batch normalisation stays at its running statistics."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        for layer in self:
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self


@pytest.mark.parametrize("kind", ["frozen", "without statistics", "without batch normalisation"])
def test_where_no_statistics_are_gathered_no_batch_is_spent(tmp_path: Path, kind: str) -> None:
    norms = {
        "frozen": nn.BatchNorm2d,
        "without statistics": lambda width: nn.BatchNorm2d(width, track_running_stats=False),
        "without batch normalisation": lambda width: nn.GroupNorm(4, width),
    }
    layers = network(norms[kind])
    model = Frozen(*layers) if kind == "frozen" else layers
    model.register_buffer("table", torch.arange(5))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    streams: list[int] = []

    def stream(start: int) -> Iterator[Pictures]:
        streams.append(start)
        return batches(start)

    recipe = Updates(optim=OptimConfig(name="sgd", lr=0.1), steps=5, ema=0.9)
    fit(model, stream, objective, recipe, seed=0, scratch=tmp_path)
    assert streams == [0]
    assert all(model.get_buffer(name).equal(buffer) for name, buffer in before.items())


def test_other_buffers_are_those_of_the_last_weights(tmp_path: Path) -> None:
    """Integers too, and what an objective counts itself."""

    def counting(model: nn.Module, batch: Pictures) -> Losses:
        model.get_buffer("seen").add_(1)
        return objective(model, batch)

    model = network()
    model.register_buffer("seen", torch.zeros((), dtype=torch.int64))
    recipe = Updates(optim=OptimConfig(name="sgd", lr=0.1), steps=7, ema=0.9)
    fit(model, batches, counting, recipe, seed=0, scratch=tmp_path)
    assert model.get_buffer("seen").item() == 7


def test_an_estimate_changes_nothing_of_the_training(tmp_path: Path) -> None:
    """Weights, statistics and what batches hand on are those of a training that is measured at its end alone."""

    def run(name: str, evaluate: int | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        carried: dict[str, Tensor] = {}

        def handing_on(model: nn.Module, batch: Pictures) -> Losses:
            before = carried.get("mean", torch.zeros(3))
            carried["mean"] = 0.5 * before + 0.5 * batch[0].mean((0, 2, 3))
            return objective(model, (batch[0] + carried["mean"][:, None, None], batch[1]))

        model, optim = network(), OptimConfig(name="sgd", lr=0.1)
        recipe = Updates(optim=optim, steps=6, every=Every(evaluate=evaluate), ema=0.9)
        scratch = tmp_path / name
        fit(model, batches, handing_on, recipe, seed=0, scratch=scratch, evaluate=lambda _: {}, carried=carried)
        return {**model.state_dict(), **load_state(tmp_path / name / "training.pt")["model"]}, carried

    plain, end = run("a", None)
    measured, end_of_measured = run("b", 2)
    assert all(tensor.equal(measured[name]) for name, tensor in plain.items())
    assert end["mean"].equal(end_of_measured["mean"])


def killed(scratch: Path, batches: int) -> None:
    """Kills the lesson, in a process of its own, before it has computed with its next batch after so many."""
    command = [sys.executable, "-m", "tests.core.experiment.lesson", scratch, scratch / "out"]
    environment, pipe = {**os.environ, "LESSON_GATE": "1"}, subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(batches):
            assert process.stdout.readline() == "batch\n"
            process.stdin.write("\n")
            process.stdin.flush()
        process.send_signal(signal.SIGKILL)
    assert not (scratch / "out").exists()


def test_a_killed_training_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    """Among updates of two batches, and while statistics are estimated: by 50 batches more after step 8."""
    killed(tmp_path / "scratch", 16 + 30)  # after step 8: the next one begins after step 5
    killed(tmp_path / "scratch", 6 + 50 + 9)  # between the two batches of step 13
    (found, rows), (model, history) = lesson(tmp_path / "scratch"), lesson(tmp_path / "unbroken")
    tensors = found.state_dict()
    assert all(tensor.equal(tensors[name]) for name, tensor in model.state_dict().items())
    assert [row.get("val") for row in rows] == [row.get("val") for row in history]
    assert [row["step"] for row in rows if "val" in row] == [8, 16, 24]


def test_a_state_without_statistics_of_the_average_is_refused_by_name(tmp_path: Path) -> None:
    model, optim = network(), OptimConfig(name="sgd", lr=0.1)
    fit(model, batches, objective, Updates(optim=optim, steps=2, ema=0.9), seed=0, scratch=tmp_path)
    state = load_state(tmp_path / "training.pt")
    state["average"] = {name: value.detach() for name, value in model.named_parameters()}
    save_state(tmp_path / "training.pt", state)
    message = r"training\.pt does not fit Average(.|\n)*missing module\.1\.running_mean"
    with pytest.raises(CheckpointError, match=message):
        fit(network(), batches, objective, Updates(optim=optim, steps=2, ema=0.9), seed=0, scratch=tmp_path)
