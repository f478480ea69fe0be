"""The loop does what its options say, and stops before anything broken is saved."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.core.experiment.lesson import EVERY, lesson
from torch import Tensor, nn

from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.distributed import Workers
from deq_core.experiment.progress import Progress
from deq_core.experiment.training.fit import Losses, NonFiniteError, fit, keep
from deq_core.experiment.training.optim import build
from deq_core.experiment.training.update import Update

SGD = OptimConfig(name="sgd", lr=0.5)


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1, dtype=torch.float64)


def numbers(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


def points(size: int) -> Callable[[int], Iterator[Tensor]]:
    """Batches of `size` successive points of one fixed sequence."""
    table = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def stream(start: int) -> Iterator[Tensor]:
        for number in numbers(start):
            yield table[number * size : (number + 1) * size]

    return stream


def squares(model: nn.Module, batch: Tensor) -> Losses:
    return Losses((model(batch) - batch.sum(dim=1, keepdim=True)).square().mean())


FOURS = points(4)


def trained(
    model: nn.Module,
    scratch: Path,
    stream: Callable[[int], Iterator[Any]] = FOURS,
    objective: Callable[[nn.Module, Any], Losses] = squares,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    **updates: Any,
) -> list[dict[str, float]]:
    """The history of a training of `model`, by gradient descent where nothing else is said."""
    return fit(
        model, stream, objective, Updates(**{"optim": SGD, **updates}), seed=0, scratch=scratch, evaluate=evaluate
    )


def test_a_step_of_gradient_descent_is_the_textbook_s(tmp_path: Path) -> None:
    model, copy = line(), line()
    history = trained(model, tmp_path, steps=1)
    loss = squares(copy, next(points(4)(0))).total
    loss.backward()
    gradients = [parameter.grad for parameter in copy.parameters() if parameter.grad is not None]
    for new, old, gradient in zip(model.parameters(), copy.parameters(), gradients, strict=True):
        assert new.equal(old - 0.5 * gradient)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    assert history == [{"step": 1, "loss": loss.item(), "lr": 0.5, "gradient_norm": pytest.approx(norm, rel=1e-12)}]


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    parts, whole = line(), line()
    every = Every(log=2)
    one = trained(parts, tmp_path / "a", steps=10, accumulate=4, every=every)
    two = trained(whole, tmp_path / "b", points(16), steps=10, every=every)
    assert torch.allclose(parts.weight, whole.weight, rtol=1e-12, atol=0)
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in two], rel=1e-12)
    assert [row["step"] for row in one] == [2, 4, 6, 8, 10]


def test_a_row_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    each = trained(line(), tmp_path / "a", steps=7)
    means = trained(line(), tmp_path / "b", steps=7, every=Every(log=3))
    assert [row["step"] for row in means] == [3, 6, 7]
    for row, rows in zip(means, (each[:3], each[3:6], each[6:]), strict=True):
        assert row["loss"] == pytest.approx(sum(entry["loss"] for entry in rows) / len(rows), rel=1e-15)


def test_a_value_of_samples_is_a_mean_over_those_that_have_it(tmp_path: Path) -> None:
    values = [(1.0, 2.0), (), (6.0,), (), (), (), (3.0, 5.0), ()]

    def partly_known(model: nn.Module, number: int) -> Losses:
        return Losses(model.get_parameter("bias").square().sum(), {"error": torch.tensor(values[number])})

    recipe: dict[str, Any] = {"steps": 4, "accumulate": 2}
    first, second = trained(line(), tmp_path, numbers, partly_known, every=Every(log=2), **recipe)
    assert (first["error"], second["error"]) == (3.0, 4.0)
    rows = trained(line(), tmp_path / "alone", numbers, partly_known, every=Every(log=1), **recipe)
    assert [row.get("error") for row in rows] == [1.5, 6.0, None, 4.0]


def test_a_long_gradient_is_scaled_down_to_the_clip(tmp_path: Path) -> None:
    model, copy = line(), line()
    history = trained(model, tmp_path, steps=1, optim=OptimConfig(name="sgd", lr=1.0, clip=0.01))
    moved = torch.cat([(new - old).flatten() for new, old in zip(model.parameters(), copy.parameters(), strict=True)])
    assert history[0]["gradient_norm"] > 0.1
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-4)


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    def slope(model: nn.Module, number: int) -> Losses:
        return Losses(model.get_parameter("bias").sum())

    model, copy = line(), line()
    history = trained(model, tmp_path, numbers, slope, steps=5, optim=OptimConfig(name="sgd", lr=0.1, warmup=4))
    assert [row["lr"] for row in history] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert (copy.bias - model.bias).item() == pytest.approx(0.35)  # the gradient is 1


@pytest.mark.parametrize(
    ("kind", "said"), [("loss", "the loss is nan"), ("gradient", "the norm of the gradient is nan")]
)
def test_nothing_broken_is_saved_when_a_number_is_not_finite(tmp_path: Path, kind: str, said: str) -> None:
    def breaks(model: nn.Module, number: int) -> Losses:
        total = model(torch.ones(1, 3, dtype=torch.float64)).square().sum()
        if number == 7:
            total = total * math.nan if kind == "loss" else total + (0 * total).sqrt()
        return Losses(total)

    model = line()
    optim = OptimConfig(name="sgd", lr=0.01, clip=1.0)
    with pytest.raises(NonFiniteError, match=rf"step 8 of 20: {said} .*optim\.lr"):
        trained(model, tmp_path, numbers, breaks, steps=20, optim=optim, every=Every(checkpoint=5))
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    state = checkpoint.load_state(tmp_path / "training.pt")
    assert state["step"] == 5
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_a_whole_file_of_another_state_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    checkpoint.save_state(tmp_path / "training.pt", {"numbers": {}, "model": {}, "step": 3})
    with pytest.raises(checkpoint.CheckpointError, match=r"training\.pt: expected .* got one without optimizer"):
        trained(line(), tmp_path, steps=2)


def test_evaluation_changes_nothing_but_the_rows(tmp_path: Path) -> None:
    plain, without = lesson(tmp_path / "a", evaluate=None, every=replace(EVERY, evaluate=None))
    measured, rows = lesson(tmp_path / "b")
    assert all(one.equal(two) for one, two in zip(plain.parameters(), measured.parameters(), strict=True))
    assert [row["step"] for row in rows if "val" in row] == [8, 16, 24]
    assert "val" not in without[-1]


def test_an_occasion_to_evaluate_needs_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"every\.evaluate: this training has no evaluation; expected null, got 2"):
        trained(line(), tmp_path, steps=6, every=Every(evaluate=2))


def test_evaluation_sees_evaluation_mode_without_gradients(tmp_path: Path) -> None:
    seen = []

    def measure(model: nn.Module) -> dict[str, float]:
        seen.append((model.training, torch.is_grad_enabled()))
        return {}

    model = line()
    trained(model, tmp_path, steps=2, evaluate=measure)
    assert seen == [(False, False)]
    assert model.training


def test_an_evaluation_that_is_not_finite_ends_the_training_and_keeps_what_was_done(tmp_path: Path) -> None:
    def measure(model: nn.Module) -> dict[str, float]:
        return {"val": 1.0, "val_loss": next(losses)}

    losses = iter([1.0, math.nan])
    with pytest.raises(NonFiniteError, match=r"the evaluation after step 4 of 6: val_loss is nan. The state"):
        trained(line(), tmp_path, steps=6, every=Every(checkpoint=2, evaluate=2), evaluate=measure)
    state = checkpoint.load_state(tmp_path / "training.pt")
    assert state["step"] == 2
    assert state["history"][-1]["val_loss"] == 1.0


def test_evaluation_draws_the_same_numbers_every_time(tmp_path: Path) -> None:
    drawn = []
    every = Every(evaluate=1)
    trained(line(), tmp_path, steps=4, every=every, evaluate=lambda _: drawn.append(torch.rand(3)) or {})
    assert len(drawn) == 4
    assert all(draw.equal(drawn[0]) for draw in drawn)


def test_averaged_weights_are_evaluated_and_returned(tmp_path: Path) -> None:
    weights, measured = [], []

    def objective(model: nn.Module, batch: Tensor) -> Losses:
        weights.append(model.get_parameter("weight").detach().clone())
        return squares(model, batch)

    def measure(model: nn.Module) -> dict[str, float]:
        measured.append(model.get_parameter("weight").detach().clone())
        return {}

    model, last = line(), line()
    trained(last, tmp_path / "a", steps=6)
    every = Every(evaluate=3)
    trained(model, tmp_path / "b", objective=objective, evaluate=measure, steps=6, every=every, ema=0.75)
    expected = weights[0]
    for index, weight in enumerate([*weights[1:], last.weight.detach()], start=1):
        expected = 0.75 * expected + 0.25 * weight
        if index in (3, 6):
            assert torch.allclose(measured[index // 3 - 1], expected, rtol=1e-12)
    assert model.weight.equal(measured[-1])


def test_bfloat16_computes_low_and_keeps_weights_high(tmp_path: Path) -> None:
    seen = []

    def objective(model: nn.Module, batch: Tensor) -> Losses:
        output = model(batch.float())
        seen.append(output.dtype)
        return Losses(output.square().mean(), {"mean": output.detach().mean()})

    model = nn.Linear(3, 1)
    history = trained(model, tmp_path, objective=objective, steps=3, precision="bfloat16")
    assert seen == [torch.bfloat16] * 3
    assert model.weight.dtype == torch.float32
    assert set(history[0]) == {"step", "loss", "mean", "lr", "gradient_norm"}


def test_float16_is_refused_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision: float16 needs CUDA, got a model on cpu"):
        trained(line(), tmp_path, steps=1, precision="float16")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_low_precision_trains_on_a_gpu(tmp_path: Path, precision) -> None:
    def objective(model: nn.Module, batch: Tensor) -> Losses:
        batch = batch.float().cuda()
        output = model(batch)
        assert output.dtype == getattr(torch, precision)
        return Losses((output - batch.sum(dim=1, keepdim=True)).square().mean())

    model = line().float().cuda()
    recipe = {"optim": OptimConfig(name="sgd", lr=0.1, clip=10.0), "steps": 60, "precision": precision}
    history = trained(model, tmp_path / "a", objective=objective, **recipe)
    assert history[-1]["loss"] < 0.05 * history[0]["loss"]
    again = line().float().cuda()
    assert trained(again, tmp_path / "b", objective=objective, **recipe) == history
    assert again.weight.equal(model.weight)


@pytest.mark.gpu
def test_float16_leaves_out_a_step_whose_gradient_overflows(tmp_path: Path) -> None:
    def objective(model: nn.Module, number: int) -> Losses:
        return Losses(model(torch.ones(1, 3, device="cuda")).float().sum() * (1e4 if number == 0 else 1.0))

    model = nn.Linear(3, 1).cuda()
    before = model.weight.detach().clone()
    history = trained(model, tmp_path, numbers, objective, steps=1, precision="float16")
    assert math.isinf(history[0]["gradient_norm"])
    assert model.weight.equal(before)


def test_float16_whose_every_gradient_overflows_is_an_error() -> None:
    def objective(model: nn.Module, number: int) -> Losses:
        return Losses((0 * model.get_parameter("bias")).sqrt().sum())  # 0, and the slope of a root there

    model, recipe = nn.Linear(3, 1), Updates(optim=SGD, steps=100, precision="float16")
    update, scaler = Update(objective, recipe, 0, Workers()), torch.amp.GradScaler("cpu", init_scale=2.0**-140)
    optimizer, stream = build(SGD, model.parameters()), numbers(0)

    def train() -> None:
        for step in range(100):
            update(step, model, optimizer, scaler, stream)

    with pytest.raises(NonFiniteError, match=r"step 10 of 100: float16 holds the gradient at no scale"):
        train()


def test_a_norm_that_overflowed_at_the_end_does_not_keep_a_network_from_being_written(tmp_path: Path) -> None:
    history = [{"step": 1.0, "gradient_norm": 2.0}, {"step": 2.0, "gradient_norm": math.inf}]
    told = keep(tmp_path / "out", nn.Linear(3, 1), SGD, history)
    assert told == json.loads((tmp_path / "out" / "metrics.json").read_text()) == {"step": 2.0, "gradient_norm": 2.0}


def test_what_batches_hand_on_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    """A loss that depends on all batches before it: killed and resumed, the weights are those of an unbroken run."""

    def handing_on(scratch: Path, stop_at: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        carried: dict[str, Tensor] = {}

        def objective(model: nn.Module, batch: Tensor) -> Losses:
            before = carried.get("mean", torch.zeros(3, dtype=torch.float64))
            carried["mean"] = 0.5 * before + 0.5 * batch.mean(dim=0)
            return squares(model, batch + before)

        def log(values: Mapping[str, float], step: int = 0) -> None:
            if step == stop_at:
                raise KeyboardInterrupt

        model = line()
        recipe = Updates(optim=SGD, steps=9, every=Every(checkpoint=2))
        fit(model, points(4), objective, recipe, seed=0, scratch=scratch, log=log, carried=carried)
        return model.weight.detach(), carried

    unbroken, end = handing_on(tmp_path / "unbroken")
    for stop_at in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            handing_on(tmp_path / "broken", stop_at)
    resumed, end_of_resumed = handing_on(tmp_path / "broken")
    assert resumed.equal(unbroken)
    assert end_of_resumed["mean"].equal(end["mean"])


def test_a_stream_that_ends_is_an_error(tmp_path: Path) -> None:
    short = [torch.ones(1, 3, dtype=torch.float64)] * 2
    with pytest.raises(ValueError, match="ended before batch 2; expected an endless stream"):
        trained(line(), tmp_path, lambda start: iter(short), steps=3)


def test_losses_are_checked_where_they_are_made() -> None:
    with pytest.raises(ValueError, match=r"total: expected a scalar, got shape \(2,\)"):
        Losses(torch.ones(2))
    with pytest.raises(ValueError, match="rename lr"):
        Losses(torch.ones(()), {"lr": 1.0})


@pytest.mark.parametrize("field", ["log", "checkpoint", "evaluate"])
def test_an_interval_of_no_steps_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        Every(**{field: 0})


def test_progress_is_a_line_now_and_then_away_from_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [0.0]
    monkeypatch.setattr("deq_core.experiment.progress.time.monotonic", lambda: seconds[0])
    with Progress(900, done=20, unit="frame") as progress:
        for seconds[0], step in ((1, 23), (40, 140), (41, 143), (340, 900)):
            progress.update(step, {"loss": 0.25})
    assert capsys.readouterr().err.splitlines() == [
        "140 of 900 frames, 3 a second, 4 minutes left: loss 0.25",
        "900 of 900 frames, 2.59 a second: loss 0.25",
    ]
    with Progress(None, seconds=0) as progress:
        seconds[0] = 440
        progress.update(20, {})
    assert capsys.readouterr().err == "20 steps, 5 seconds each\n", "nobody knows how many a camera has"


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(4, done=2) as progress:
        progress.update(3, {"loss": 0.25})
        progress.update(4, {"loss": 0.125})
    told = capsys.readouterr().err
    assert "4/4" in told
    assert "loss=0.125" in told
