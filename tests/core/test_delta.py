"""The delta rule: exact at threshold 0, and honest about what it skipped."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import deq_core as deq

WRONG: Any = "kept"


class Cell(nn.Module):
    """Convolutions of every kind, a linear layer, a layer used twice, and an in-place activation."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.grouped = nn.Conv2d(6, 6, (1, 3), padding=(0, 1), groups=2, bias=False)
        self.dilated = nn.Conv2d(6, 4, 3, padding=2, dilation=2)
        self.twice = nn.Conv2d(4, 4, 1)
        self.gate = nn.Linear(4, 4)

    def forward(self, z, x):
        y = self.dilated(self.grouped(self.encode(z)))
        y = self.twice(y) - 0.5 * self.twice(z)
        gate = torch.sigmoid(self.gate(z.mean((2, 3))))
        return torch.tanh(0.5 * y * gate[:, :, None, None] + x)


@pytest.fixture
def x():
    return torch.randn(2, 4, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def cell():
    torch.manual_seed(0)
    return Cell().double().eval()


STOP = deq.Stop(10, None)


def solve(cell, x, z0=None, **options):
    z0 = torch.zeros_like(x) if z0 is None else z0
    with torch.no_grad():
        return deq.fixed_point(lambda z: cell(z, x), z0, solver=deq.FixedPointIteration(), stop=STOP, **options)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("reference", ["seen", "sent"])
def test_threshold_zero_is_the_dense_cell(cell, x, reference, normalised):
    cell = deq.nn.weight_norm_(cell) if normalised else cell
    delta, meter = deq.delta.to_delta(cell, 0.0, reference=reference)
    dense, sparse = solve(cell, x, record=(2, 5)), solve(delta, x, record=(2, 5))
    for left, right in zip((*dense.trajectory, dense.value), (*sparse.trajectory, sparse.value), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-13)
    assert set(meter.layers) == {"encode.0", "grouped", "dilated", "twice", "gate"}


def test_weights_are_shared_and_the_original_is_untouched(cell, x):
    state = copy.deepcopy(cell.state_dict())
    delta, _ = deq.delta.to_delta(cell, 0.1)
    assert {id(p) for p in delta.parameters()} == {id(p) for p in cell.parameters()}
    assert delta.state_dict().keys() == state.keys()
    assert cell.encode[1].inplace
    assert not delta.encode[1].inplace
    before = solve(cell, x).value
    solve(delta, x)
    assert torch.equal(solve(cell, x).value, before)
    with torch.no_grad():
        cell.gate.weight.add_(1.0)
    assert torch.equal(delta.gate.weight, cell.gate.weight)


def test_one_evaluation_follows_the_release(x):
    """Y ← layer(d) + Y - bias with d thresholded, X ← x, bit for bit."""
    layer = nn.Conv2d(4, 3, 3, padding=1, dtype=torch.float64)
    delta, _ = deq.delta.to_delta(layer, 0.3)
    bias: Any = layer.bias
    first, second, third = x, x + 0.4 * torch.randn_like(x), x + 0.2
    with torch.no_grad(), deq.solve_scope():
        found = [delta(value) for value in (first, second, third)]
        y, previous = layer(first), first
        assert torch.equal(found[0], y)
        for value, result in ((second, found[1]), (third, found[2])):
            change = value - previous
            change[change.abs() <= 0.3] = 0
            y = layer(change) + y - bias[:, None, None]
            assert torch.equal(result, y)
            previous = value


def test_small_changes_add_up_when_the_reference_is_what_was_sent(x):
    layer = nn.Conv2d(4, 3, 3, padding=1, dtype=torch.float64)
    errors = {}
    for reference in ("seen", "sent"):
        delta, _ = deq.delta.to_delta(layer, 0.1, reference=reference)
        with torch.no_grad(), deq.solve_scope():
            for step in range(20):
                delta(x + 0.03 * step)
            errors[reference] = (delta(x + 0.03 * 20) - layer(x + 0.03 * 20)).abs().max().item()
    assert errors["sent"] < 0.3 * errors["seen"]


def test_the_error_grows_with_the_threshold_and_stays_within_its_bound():
    """On a contraction: |error| ≤ threshold · L / (1 - L), here in the largest magnitude, reference "sent"."""
    layer = nn.Linear(6, 6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.mul_(0.8 / layer.weight.abs().sum(1).max())
    x = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = deq.fixed_point(lambda z: torch.tanh(layer(z) + x), x, stop=deq.Stop(100, 1e-14)).value
        errors = []
        for threshold in (1e-4, 1e-3, 1e-2, 1e-1):
            delta, _ = deq.delta.to_delta(layer, threshold, reference="sent")
            stop = deq.Stop(200, None)
            solution = deq.fixed_point(
                lambda z, delta=delta: torch.tanh(delta(z) + x), x, solver=deq.FixedPointIteration(), stop=stop
            )
            last = (solution.value - exact).abs().max().item()
            assert last <= threshold * 0.8 / 0.2
            errors.append(last)
    assert errors[0] < errors[1] < errors[2] < errors[3]


def test_memories_end_with_the_solve(cell, x):
    delta, meter = deq.delta.to_delta(cell, 0.05)
    first = solve(delta, x).value
    solve(delta, 2 * x)
    assert torch.equal(solve(delta, x).value, first)
    meter.reset()
    assert meter.dense_macs == 0


def test_memories_across_solves_start_the_next_frame(cell, x):
    delta, meter = deq.delta.to_delta(cell, 1e-3, across_solves=True)
    state = solve(delta, x).value
    meter.reset()
    solve(delta, x, z0=state)
    warm = meter.sparsity
    meter.forget()
    meter.reset()
    solve(delta, x, z0=state)
    assert warm > meter.sparsity
    smaller = x[:, :, :4]
    torch.testing.assert_close(solve(delta, smaller).value, solve(cell, smaller).value, rtol=0, atol=0.1)


@pytest.mark.parametrize("reference", ["seen", "sent"])
def test_what_is_no_number_shows_and_ends_with_its_solve(cell, x, reference):
    delta, _ = deq.delta.to_delta(cell, 0.0, reference=reference, across_solves=True)
    solve(delta, x)
    broken = torch.zeros_like(x)
    broken[1, 2, 3, 4] = torch.nan
    assert solve(delta, x, z0=broken).outcome.not_finite.tolist() == [False, True]
    torch.testing.assert_close(solve(delta, 2 * x).value, solve(cell, 2 * x).value, rtol=0, atol=1e-12)


def test_memories_of_other_weights_are_dropped(cell, x):
    delta, _ = deq.delta.to_delta(deq.nn.weight_norm_(cell), 0.0, across_solves=True)
    others = {name: 0.9 * value for name, value in cell.state_dict().items()}
    for change in (lambda: cell.gate.bias.add_(1.0), lambda: cell.load_state_dict(others)):
        solve(delta, x)
        with torch.no_grad():
            change()
        torch.testing.assert_close(solve(delta, x).value, solve(cell, x).value, rtol=0, atol=1e-12)


def test_outside_a_solve_and_under_autograd_layers_are_dense(cell, x):
    delta, meter = deq.delta.to_delta(cell, 10.0)
    z = torch.randn_like(x)
    with torch.no_grad():
        delta(z, x)
        assert torch.equal(delta(2 * z, x), cell(2 * z, x))
    with deq.solve_scope():
        delta(z, x)
        assert torch.equal(delta(2 * z, x), cell(2 * z, x))
    assert meter.dense_macs == 0
    assert meter.sparsity == meter.pixel_sparsity == meter.tile_sparsity == 0
    assert {row["sparsity"] for row in meter.rows()} == {0}


def test_gradients_of_a_delta_solve_are_dense_ones_at_its_state(cell, x):
    delta, _ = deq.delta.to_delta(cell, 0.0)
    found, expected = (
        torch.autograd.grad(
            deq.fixed_point(lambda z, c=c: c(z, x), torch.zeros_like(x), adjoint=deq.Phantom()).value.sum(),
            list(cell.parameters()),
        )
        for c in (delta, cell)
    )
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


def test_the_dense_residual_is_reported(cell, x):
    delta, _ = deq.delta.to_delta(cell, 0.2)
    blind, checked = solve(delta, x), solve(delta, x, check=lambda z: cell(z, x))
    assert torch.equal(blind.value, checked.value)
    with torch.no_grad():
        image = cell(checked.value, x)
    gap = (image - checked.value).flatten(1).norm(dim=1) / image.flatten(1).norm(dim=1)
    torch.testing.assert_close(checked.residual, gap)
    assert (checked.residual > blind.residual).all()
    assert checked.nfe == blind.nfe + 1


def test_a_refresh_restores_the_dense_output(x):
    layer = nn.Conv2d(4, 3, 3, padding=1, dtype=torch.float64)
    delta, meter = deq.delta.to_delta(layer, 5.0, refresh_every=3)
    with torch.no_grad(), deq.solve_scope():
        equal = [torch.equal(delta(scale * x), layer(scale * x)) for scale in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)]
    assert equal == [True, False, False, True, False, False, True]
    assert meter.sparsity == pytest.approx(4 / 7)


def test_relative_thresholds_do_not_see_the_scale(x):
    layer = nn.Conv2d(4, 3, 3, padding=1, bias=False, dtype=torch.float64)
    sparsities = []
    for scale in (1.0, 1e-6):
        delta, meter = deq.delta.to_delta(layer, 0.1, relative=True)
        with torch.no_grad(), deq.solve_scope():
            delta(scale * x)
            delta(scale * (x + 0.2 * x.roll(1, 3)))
        sparsities.append(meter.sparsity)
    assert sparsities[0] == sparsities[1]
    assert 0.1 < sparsities[0] < 0.5


def test_a_schedule_scales_the_threshold_by_evaluation(x):
    layer = nn.Conv2d(4, 3, 1, dtype=torch.float64)
    seen = []
    delta, _ = deq.delta.to_delta(layer, 1.0, schedule=lambda evaluation: seen.append(evaluation) or 0.0)
    with torch.no_grad(), deq.solve_scope():
        for scale in (1.0, 1.1, 1.2):
            torch.testing.assert_close(delta(scale * x), layer(scale * x), rtol=0, atol=1e-13)
    assert seen == [2, 3]
    delta, _ = deq.delta.to_delta(layer, 1.0, schedule=lambda step: seen.append(step) or 0.0, across_solves=True)
    for _ in range(2):
        with torch.no_grad():
            deq.fixed_point(lambda z: delta(x).repeat(1, 4, 1, 1)[:, :4], x, stop=deq.Stop(3, None))
    assert seen[2:] == [2, 3, 1, 2, 3]


def test_thresholds_by_name(cell, x):
    delta, meter = deq.delta.to_delta(cell, {"": 0.0, "encode": 1e9, "gate": 1e9}, skip=("twice",))
    solve(delta, x)
    skipped = {row["layer"]: row["sparsity"] for row in meter.rows()}
    assert set(skipped) == {"encode.0", "grouped", "dilated", "gate"}
    assert skipped["encode.0"] == pytest.approx(0.9)
    assert skipped["gate"] == pytest.approx(0.9)


@pytest.mark.parametrize("forward", [lambda conv, z: conv(z).relu_(), lambda conv, z: (conv(y := z * 1), y.relu_())[0]])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_in_place_change_of_a_remembered_tensor_is_refused(x, mode, forward):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1, dtype=torch.float64)

        def forward(self, z):
            return forward(self.conv, z)

    delta, _ = deq.delta.to_delta(InPlace(), 0.0)
    with mode(), deq.solve_scope():
        delta(x)
        with pytest.raises(ValueError, match="layer 'conv' was changed in place"):
            delta(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cell: deq.delta.to_delta(cell, -1.0), "a threshold must be at least 0"),
        (lambda cell: deq.delta.to_delta(cell, {"gaet": 0.1}), r"threshold names no module: \['gaet'\]"),
        (lambda cell: deq.delta.to_delta(cell, {"gate": 0.1}), "threshold has no value for layer 'encode.0'"),
        (lambda cell: deq.delta.to_delta(cell, 0.1, skip=("gaet",)), r"skip names no module: \['gaet'\]"),
        (lambda cell: deq.delta.to_delta(cell, 0.1, reference=WRONG), "reference must be 'seen' or 'sent'"),
        (lambda cell: deq.delta.to_delta(cell, 0.1, refresh_every=0), "refresh_every must be None or at least 1"),
        (
            lambda cell: deq.delta.to_delta(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), 0.1),
            "pads with 'circular'",
        ),
    ],
)
def test_impossible_settings_are_named(cell, call, message):
    with pytest.raises(ValueError, match=message):
        call(cell)
