"""The multiscale model: what it returns, how it is solved, what stays fixed in a solve, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deq_core as deq
from deq_vision import MDEQ, Architecture, Classification, Equilibrium, Segmentation, build
from deq_vision.models.cell import Cell

PLAIN = deq.FixedPointIteration()
CLASSIFY = Architecture(
    channels=(8, 16, 24),
    expansion=2,
    halvings=1,
    injection_gain=5.0,
    output_affine=True,
    output_gain=0.5,
    initialisation="default",
    head=Classification(channels=(4, 4, 8), final=16, classes=5),
)
SEGMENT = replace(CLASSIFY, injection="all", halvings=2, head=Segmentation(classes=3))
SIZES = {"classify": CLASSIFY, "segment": SEGMENT}


def tiny(size: Architecture = CLASSIFY, **choices: Any) -> MDEQ:
    """A small model in float64, which contracts: with plain iteration it is solved to rounding."""
    choices = {"solver": PLAIN, "stop": deq.Stop(200, 1e-11), **choices}
    model = MDEQ(size, Equilibrium(**choices)).double()
    injected = model.cell.get_submodule("branches.0.norm2")
    for part in (model.cell.branches, model.cell.fuse):
        for norm in part.modules():
            if isinstance(norm, nn.GroupNorm) and norm is not injected:
                nn.init.constant_(norm.weight, 0.05)  # what varies with the state is small beside an offset
                nn.init.normal_(norm.bias)
    return model


def images(*, seed: int = 0, batch: int = 2, side: int = 32) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=SIZES)
def model(request: pytest.FixtureRequest) -> MDEQ:
    return tiny(SIZES[request.param]).eval()


def test_the_output_has_logits_branches_and_the_solve(model: MDEQ) -> None:
    output = model(images())
    side = 32 >> model.size.halvings
    assert [tuple(z.shape) for z in output.state] == [
        (2, channels, side >> i, side >> i) for i, channels in enumerate((8, 16, 24))
    ]
    segments = isinstance(model.size.head, Segmentation)
    assert output.logits.shape == ((2, 3, side, side) if segments else (2, 5))
    assert output.solution.converged.all()
    assert not any(z.requires_grad for z in output.state)
    assert output.logits.requires_grad


def test_images_of_single_precision_are_seen_by_a_network_of_double(model: MDEQ) -> None:
    seen = images().float()
    assert torch.equal(model(seen).logits, model(seen.double()).logits)


def test_the_state_is_a_fixed_point_of_the_cell(model: MDEQ) -> None:
    output = model(images())
    for image, z in zip(model.cell(*output.state, model.inject(images())), output.state, strict=True):
        torch.testing.assert_close(image, z, rtol=0, atol=1e-9)
    assert model.head is not None
    torch.testing.assert_close(output.logits, model.head(output.state), rtol=0, atol=0)


def test_a_frame_starts_where_the_last_one_ended(model: MDEQ) -> None:
    once = deq.Stop(1, None)
    with torch.no_grad():
        first = model(images(), stop=once)
        second = model(images(seed=1), first.state, stop=once)
        expected = model.cell(*first.state, model.inject(images(seed=1)))
        converged = model(images())
        again = model(images(), converged.state)
    for found, wanted in zip(second.state, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert second.solution.nfe == 1
    assert again.solution.nfe < converged.solution.nfe / 4


def test_a_state_of_another_size_is_not_used(model: MDEQ) -> None:
    with torch.no_grad():
        small = model(images(side=16)).state
        torch.testing.assert_close(model(images(), small).logits, model(images()).logits, rtol=0, atol=0)


def test_released_numerics_return_the_image_in_training_and_the_state_in_evaluation() -> None:
    model = tiny(solver=deq.Broyden(), stop=deq.Stop(3, None), numerics="released").eval()
    injection = model.inject(images())
    trained = model.solve(injection)
    with torch.no_grad():
        evaluated = model.solve(injection)
        for found, z in zip(trained.value, model.cell(*evaluated.value, injection), strict=True):
            torch.testing.assert_close(found, z, rtol=0, atol=1e-12)
    assert isinstance(trained, deq.compat.ReleasedSolution)
    for found, z in zip(trained.argument, evaluated.value, strict=True):
        torch.testing.assert_close(found, z, rtol=0, atol=1e-12)


def test_unrolling_applies_the_cell_so_often_and_records_every_state() -> None:
    model = tiny().eval()
    with torch.no_grad():
        injection = model.inject(images())
        state = model.start(injection)
        states = []
        for _ in range(4):
            state = model.cell(*state, injection)
            states.append(state)
        solution = model(images(), steps=4, record=(1, 3)).solution
    for found, expected in zip((*solution.trajectory, solution.value), (states[0], states[2], states[3]), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert solution.nfe == 4


def test_evaluation_has_a_stop_of_its_own() -> None:
    model = tiny(stop=deq.Stop(2, None), eval_stop=deq.Stop(5, None))
    with torch.no_grad():
        assert len(model.train()(images()).solution.trace) == 2
        assert len(model.eval()(images()).solution.trace) == 5


def test_dropout_masks_stay_for_a_solve_its_gradient_and_its_penalty() -> None:
    model = tiny(replace(CLASSIFY, dropout=0.5)).train()
    with deq.solve_scope():
        injection = model.inject(images())
        solution = model.solve(injection)
        again = model.cell(*solution.value, injection)
        penalties = [
            model.jacobian_penalty(injection, solution, generator=torch.Generator().manual_seed(0)).item()
            for _ in range(2)
        ]
    for image, z in zip(again, solution.value, strict=True):
        torch.testing.assert_close(image, z, rtol=0, atol=1e-9)
    assert solution.converged.all()
    assert penalties[0] == penalties[1]
    other = model.solve(injection)
    assert (other.value[0] - solution.value[0]).abs().max() > 1e-2


def test_dropout_drops_whole_channels_of_a_sample_and_rests_in_evaluation() -> None:
    model = tiny(replace(CLASSIFY, dropout=0.5))
    block = model.cell.branches[0]
    seen: list[Tensor] = []

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    handle = block.get_submodule("dropout").register_forward_hook(see)
    model.train()(images(), steps=3)
    dropped = (seen[1] == 0).flatten(2)
    assert (dropped.all(2) == dropped.any(2)).all()
    assert 0 < dropped.all(2).sum() < dropped[..., 0].numel()
    assert torch.equal(dropped, (seen[2] == 0).flatten(2))
    seen.clear()
    model.eval()(images(), steps=2)
    assert (seen[1] != 0).any(2).any(2).all()
    handle.remove()


def test_what_is_weight_normalised_is_what_the_release_normalises() -> None:
    model = build("cifar-large")
    normed = {name.split(".parametrizations")[0] for name in model.state_dict() if name.endswith("original0")}
    expected = {f"cell.branches.{i}.conv{k}" for i in range(4) for k in (1, 2)} | {
        f"cell.post.{i}.conv" for i in range(4)
    }
    assert normed == expected
    assert not any("original" in name for name in tiny(replace(CLASSIFY, weight_norm=False)).state_dict())


def test_the_jacobian_penalty_is_the_frobenius_norm_over_the_size() -> None:
    model = tiny(replace(CLASSIFY, channels=(8,), halvings=0, head=None), stop=deq.Stop(100, 1e-12)).eval()
    injection = model.inject(images(batch=1, side=4))
    solution = model.solve(injection)
    (z,) = (branch.detach() for branch in solution.value)
    jacobian = torch.autograd.functional.jacobian(lambda z: model.cell(z, injection)[0], z).reshape(128, 128)
    probes = [(row.reshape(z.shape),) for row in 128**0.5 * torch.eye(128, dtype=torch.float64)]
    penalty = model.jacobian_penalty(injection, solution, probes=probes)
    assert penalty.item() == pytest.approx((jacobian.square().sum() / 128).item(), rel=1e-9)
    penalty.backward()
    for layer in ("cell.branches.0.conv1", "cell.branches.0.conv2", "cell.post.0.conv"):
        gradient = model.get_parameter(f"{layer}.parametrizations.weight.original1").grad
        assert gradient is not None
        assert gradient.abs().max() > 0, layer
    gradient = model.get_parameter("stem.layers.0.conv.weight").grad  # the injection shifts what the norms divide by
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_initial_weights_are_the_releases() -> None:
    model = build("cifar-large")
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            fan_in = layer.weight[0].numel()
            normed = "parametrizations" in dict(layer.named_children())
            expected = (3 * fan_in) ** -0.5 if normed else 0.01
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.1), name
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            assert layer.bias.std().item() == pytest.approx(0.01, rel=0.3), name
    default = build("cifar-large", initialisation="default").stem.get_submodule("layers.1.conv").get_parameter("weight")
    assert default.std().item() == pytest.approx((3 * 288) ** -0.5, rel=0.1)


def test_gains_are_what_was_asked() -> None:
    model = tiny(SEGMENT)
    for output in model.cell.post:
        assert torch.equal(output.get_submodule("norm").get_parameter("weight").unique(), torch.tensor([0.5]).double())
    half = tiny(replace(SEGMENT, injection_gain=2.5))
    half.load_state_dict(model.state_dict())
    for doubled, single in zip(model.eval().inject(images()), half.eval().inject(images()), strict=True):
        torch.testing.assert_close(doubled, 2 * single)


def test_the_cell_may_be_replaced_by_one_fed_with_changes(model: MDEQ) -> None:
    with torch.no_grad():
        cell, meter = deq.delta.to_delta(model.cell, threshold=0.0)
        injection = model.inject(images())
        start = model.start(injection)
        choices: dict[str, Any] = {"solver": PLAIN, "stop": deq.Stop(5, None)}
        dense = deq.fixed_point(model.map(injection), start, **choices).value
        delta = deq.fixed_point(model.map(injection, cell), start, **choices).value
    for found, expected in zip(delta, dense, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert meter.dense_macs > 0


def test_features_come_without_a_head() -> None:
    model = tiny(replace(CLASSIFY, head=None))
    value, solution = model.features(images())
    assert [z.shape[1] for z in value] == [8, 16, 24]
    assert all(z.requires_grad for z in value)
    assert solution.converged.all()
    with pytest.raises(ValueError, match="no head"):
        model(images())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 3, 32, 36), r"multiples of 8.*\(32, 36\)"),
        (torch.zeros(2, 3, 4, 8), "multiples of 8"),
        (torch.zeros(2, 1, 32, 32), r"\(B, 3, H, W\), got \(2, 1, 32, 32\)"),
        (torch.zeros(3, 32, 32), r"got \(3, 32, 32\)"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "normalised floating point.*uint8"),
    ],
)
def test_images_that_do_not_fit_are_refused(wrong: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny()(wrong)


def test_a_cell_with_too_few_branches_is_refused() -> None:
    model = tiny()
    injection = model.inject(images())
    with pytest.raises(ValueError, match=r"takes 3 branches and the injection.*got 2 arguments"):
        model.cell(model.start(injection)[0], injection)


def test_steps_and_stop_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        tiny()(images(), steps=2, stop=deq.Stop(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ()}, "at least one branch"),
        ({"channels": (12, 16)}, "groups must divide .* got 8 for 12 channels"),
        ({"expansion": 0.3}, "inner"),
        ({"kernels": (4, 3)}, "kernels must be odd"),
        ({"halvings": -1}, "halvings"),
        ({"output_gain": 2.0, "output_affine": False}, "output_gain needs output_affine"),
        ({"head": Classification(channels=(4, 4), final=8, classes=2)}, "one width a branch"),
    ],
)
def test_architectures_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CLASSIFY, **change)


def test_unknown_numerics_are_refused() -> None:
    with pytest.raises(ValueError, match="'core' or 'released', got 'old'"):
        Equilibrium(numerics="old")  # pyright: ignore[reportArgumentType]  the error is the point


def test_an_equilibrium_refuses_what_is_no_solver_stop_or_adjoint() -> None:
    for name in ("solver", "stop", "adjoint", "eval_stop"):
        with pytest.raises(TypeError, match=r"must be an object such as"):
            build("mini-digits", **{name: 2})


@pytest.mark.parametrize("branches", [1, 2, 4])
@pytest.mark.parametrize("kernels", [(3, 3), (5, 3), (1, 5)])
def test_branches_and_kernels_are_free(branches: int, kernels: tuple[int, int]) -> None:
    size = Architecture(channels=(8, 16, 16, 8)[:branches], expansion=1.5, groups=4, kernels=kernels)
    cell = Cell(size)
    state = tuple(torch.randn(2, channels, 16 >> i, 8 >> i) for i, channels in enumerate(size.channels))
    assert [z.shape for z in cell(*state, state[0])] == [z.shape for z in state]


@pytest.mark.parametrize("numerics", ["core", "released"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_training_step_in_mixed_precision_is_near_that_in_single(device: str, numerics: str) -> None:
    model = build("mini-digits", numerics=numerics, stop=deq.Stop(8, None)).to(device)
    x, labels = torch.randn(8, 3, 32, 32, device=device), torch.arange(8, device=device)
    losses, gradients = [], []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            output = model(x)
            loss = nn.functional.cross_entropy(output.logits, labels)
        assert {z.dtype for z in output.solution.value} == {torch.float32}
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.9
