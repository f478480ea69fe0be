"""What every flow network does: sizes, precision, padding, states, normalisation."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deq_core as deq
from deq_flow.models import RAFT, DEQFlow, FlowOutput, build
from deq_flow.models.padding import Padding

SMALL: dict[str, Any] = {
    "stages": (8, 8, 8),
    "features": 8,
    "hidden": 6,
    "context": 5,
    "correlation_widths": (8, 6),
    "flow_widths": (6, 4),
    "motion": 7,
    "head": 6,
    "mask": 6,
    "radius": 2,
    "levels": 2,
}
FAMILIES = ["deq-flow-base", "raft", "raft-mini"]


def network(name: str, **overrides: Any) -> DEQFlow | RAFT:
    torch.manual_seed(0)
    return build(name, **SMALL, **overrides).eval()


def pair(height: int = 32, width: int = 40, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    first, second = 255 * torch.rand(2, batch, 3, height, width, generator=generator)
    return first, second


def run(model: nn.Module, *arguments: Any, **options: Any) -> FlowOutput:
    with torch.no_grad():
        return model(*arguments, **options)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(16, 16), (17, 39), (33, 16)])
def test_flow_has_the_size_of_the_images(name: str, size: tuple[int, int]) -> None:
    output = run(network(name), *pair(*size, batch=2), steps=2)
    assert output.flow.shape == (2, 2, *size)
    assert output.flow.isfinite().all()
    scale = 4 if name == "raft-mini" else 8
    assert output.flow_low.shape == (2, 2, -(-size[0] // scale), -(-size[1] // scale))
    assert output.flows[-1] is output.flow


@pytest.mark.parametrize("name", FAMILIES)
def test_bytes_and_floats_give_the_same_flow(name: str) -> None:
    model = network(name)
    first, second = (image.round() for image in pair())
    floats = run(model, first, second, steps=2).flow
    assert torch.equal(run(model, first.to(torch.uint8), second.to(torch.uint8), steps=2).flow, floats)


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_of_a_batch_do_not_influence_each_other(name: str) -> None:
    model = network(name).double()
    first, second = pair(batch=2)
    together = run(model, first, second, steps=3).flow
    for i in range(2):
        torch.testing.assert_close(run(model, first[i : i + 1], second[i : i + 1], steps=3).flow, together[i : i + 1])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_double_network_computes_in_double(name: str) -> None:
    output = run(network(name).double(), *pair(), steps=2)
    assert output.flow.dtype == output.flow_low.dtype == output.state[0].dtype == torch.float64


@pytest.mark.parametrize("name", FAMILIES)
def test_flow_and_state_stay_in_single_precision_under_autocast(name: str) -> None:
    model = network(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run(model, *pair(), steps=2)
    assert output.flow.dtype == output.state[0].dtype == output.state[1].dtype == torch.float32
    exact = run(model, *pair(), steps=2)
    assert (output.flow_low - exact.flow_low).abs().max() < 0.1 * exact.flow_low.abs().max()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_state_of_one_pair_is_the_start_of_the_next(name: str) -> None:
    model = network(name)
    first = run(model, *pair(), steps=3)
    assert not any(part.requires_grad for part in first.state)
    cold = run(model, *pair(), steps=1)
    warm = run(model, *pair(), first.state, steps=1)
    assert not torch.allclose(cold.flow, warm.flow)
    other = run(model, *pair(48, 40), steps=1).state
    assert torch.equal(cold.flow, run(model, *pair(), other, steps=1).flow), "a state of another size does not fit"
    if name == "deq-flow-base":
        torch.testing.assert_close(warm.flow, run(model, *pair(), steps=4).flow)


@pytest.mark.parametrize("name", FAMILIES)
def test_recorded_steps_come_first_and_the_last_step_once_more(name: str) -> None:
    model = network(name).double()
    for record in ((1, 3), (1, 2, 3, 4), ()):
        output = run(model, *pair(), steps=4, record=record)
        assert len(output.flows) == len(record) + 1
        for steps, flow in zip((*record, 4), output.flows, strict=True):
            torch.testing.assert_close(flow, run(model, *pair(), steps=steps).flow)
    for record in ((5,), (2, 2), (0, 1)):
        with pytest.raises(ValueError, match="record"):
            run(model, *pair(), steps=4, record=record)


def test_an_unrolled_network_predicts_at_every_step() -> None:
    output = run(network("raft"), *pair(), steps=4)
    assert len(output.flows) == 4
    with pytest.raises(ValueError, match="steps must be at least 1"):
        run(network("raft"), *pair(), steps=0)


@pytest.mark.parametrize("attention", ["none", "global"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_learns(name: str, attention: str) -> None:
    model = network(name, attention=attention).train()
    if attention == "global":  # it starts at zero, and so does the gradient of what it scales
        nn.init.constant_(model.get_parameter("update_block.gma.gamma"), 1.0)
    output = model(*pair(batch=2), steps=4) if name != "deq-flow-base" else model(*pair(batch=2))
    torch.stack(output.flows).square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", FAMILIES)
def test_dropout_zeroes_channels_of_the_features_in_training_alone(name: str) -> None:
    model = network(name, dropout=0.4)
    first, second = pair(batch=2)
    images = torch.cat([first, second]) / 255
    whole = model.fnet(images)
    torch.testing.assert_close(whole, network(name).fnet(images))
    torch.manual_seed(1)
    dropped = model.fnet.train()(images)
    zeroed = (dropped == 0).all(dim=(2, 3))
    assert 0 < zeroed.float().mean() < 1
    assert not torch.equal(zeroed[:2], zeroed[2:])  # both images of a pair have masks of their own
    torch.testing.assert_close(dropped, torch.where(zeroed[:, :, None, None], 0.0, whole / 0.6))
    assert run(model.train(), first, second).flow.isfinite().all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_cells_dropout_keeps_its_masks_throughout_a_forward_pass(name: str) -> None:
    choices = {"correction": (2,), "stop": deq.Stop(4, tol=None)} if name == "deq-flow-base" else {"steps": 4}
    model = network(name, cell_dropout=0.5, **choices).train().freeze_batch_norm()
    masks: list[list[Tensor]] = [[], []]
    encoder = model.update_block.encoder
    for layer, seen in zip((encoder.dropc1, encoder.dropf1), masks, strict=True):

        def look(layer: nn.Module, inputs: tuple[Tensor], output: Tensor, seen: list[Tensor] = seen) -> None:
            seen.append(torch.where(inputs[0] == 0, torch.nan, (output != 0).float()))

        layer.register_forward_hook(look)
    model(*pair())
    for seen in masks:
        assert len(seen) >= 4
        known = torch.stack(seen)
        assert all(((known[0] == other) | known[0].isnan() | other.isnan()).all() for other in known)
        assert 0.2 < known.nanmean() < 0.8
    before = [len(seen) for seen in masks]
    model(*pair())
    assert not all(
        torch.equal(seen[0].nan_to_num(nan=2), seen[count].nan_to_num(nan=2))
        for seen, count in zip(masks, before, strict=True)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_batch_norm_stays_frozen(name: str) -> None:
    model = network(name).train()
    norm = model.cnet.norm1
    assert norm.training
    model.freeze_batch_norm()
    before = copy.deepcopy(dict(model.named_buffers()))
    model.eval().train()
    model(*pair(batch=2))
    assert model.training
    for buffer_name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[buffer_name]), buffer_name
    model.freeze_batch_norm(False)
    assert norm.training


@pytest.mark.parametrize("name", FAMILIES)
def test_a_copy_is_independent_and_equal(name: str) -> None:
    model = network(name)
    twin = copy.deepcopy(model)
    expected = run(model, *pair(), steps=2).flow
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(run(twin, *pair(), steps=2).flow, expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [((1, 3, 32, 40), (1, 3, 32, 48)), ((3, 32, 40), (3, 32, 40)), ((1, 1, 32, 40),) * 2, ((1, 3, 15, 40),) * 2],
)
def test_images_that_do_not_fit_are_refused(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images must be"):
        network("raft")(torch.zeros(first), torch.zeros(second))


@pytest.mark.parametrize(
    ("size", "mode", "sides"),
    [((436, 1024), "centre", (0, 0, 2, 2)), ((375, 1242), "bottom", (3, 3, 0, 1)), ((384, 512), "centre", (0,) * 4)],
)
def test_padding_is_that_of_the_benchmarks(size: tuple[int, int], mode: Any, sides: tuple[int, ...]) -> None:
    padding = Padding(*size, multiple=8, mode=mode)
    assert padding.sides == sides
    image = torch.rand(1, 3, *size)
    padded = padding.pad(image)
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    assert torch.equal(padded, F.pad(image, sides, mode="replicate"))
    assert torch.equal(padding.crop(padded), image)


def test_a_flow_is_found_relative_to_a_base() -> None:
    torch.manual_seed(0)
    model = build("deq-flow-mini").double().eval()
    images = torch.rand(2, 1, 3, 64, 96, dtype=torch.float64) * 255
    base = torch.zeros(1, 2, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        plain, based = model.encode(*images), model.encode(*images, base=base + 8)
        assert torch.equal(based.lookup(based.grid), plain.lookup(plain.grid + 2))  # cells of 4 pixels
        torch.testing.assert_close(model(*images, base=base).flow, model(*images).flow)
        found = model(*images, steps=1, base=base + 8)
        expected = based.finish(found.state[1], found.state[0])
    torch.testing.assert_close(found.flow, expected)
    torch.testing.assert_close(found.flow_low - found.state[1], torch.full_like(found.flow_low, 2.0))


def test_a_base_of_another_size_is_refused() -> None:
    model = build("deq-flow-mini").eval()
    image = torch.zeros(1, 3, 64, 96)
    with pytest.raises(ValueError, match=r"base must be the flow \(1, 2, 64, 96\)"):
        model(image, image, base=torch.zeros(1, 2, 16, 24))
