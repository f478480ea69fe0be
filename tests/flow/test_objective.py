"""The loss of a batch: at its own scale and at a coarser one, in one solve from zero and in several from elsewhere."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.changes import lost

import deq_core as deq
from deq_core.nn import MoveMaps, RandomSegments
from deq_flow.data.batches import FlowBatch
from deq_flow.models import DEQFlow, build
from deq_flow.params import Coarser, Contraction, Stabilise
from deq_flow.training.loss import sequence_loss
from deq_flow.training.objective import Objective, halved, two_scales
from deq_flow.training.stabilise import attempt, moved

CHOICE = Stabilise(
    segments=RandomSegments(low=2, high=(3, 4), high_at_start=(2, 3), ramp=0.4, long=(5, 6), long_share=0.5),
    share=0.5,
    move=MoveMaps(shift=0.3, scale=(0.1, 0.3), noise=(0.1, 0.5)),
    contraction=Contraction(begin=0.5, ramp=0.1, bound=0.0, floor=10.0),
)


def network(**choices: Any) -> DEQFlow:
    torch.manual_seed(0)
    model = build("deq-flow-mini", leak=0.15, **choices).train()
    assert isinstance(model, DEQFlow)
    return model


def batch(samples: int = 3, height: int = 48, width: int = 64) -> FlowBatch:
    generator = torch.Generator().manual_seed(1)
    images = 255 * torch.rand(2, samples, 3, height, width, generator=generator)
    flow = 3 * torch.randn(samples, 2, height, width, generator=generator)
    return FlowBatch(images[0], images[1], flow, torch.rand(samples, height, width, generator=generator) < 0.5)


def objective(**choices: Any) -> Objective:
    return Objective(steps=100, gamma=0.8, **choices)


def test_by_itself_it_is_the_sequence_loss_of_what_the_network_predicts() -> None:
    model, pairs = network(), batch()
    found = objective()(model, (0, pairs))
    expected = sequence_loss(model(pairs.image1, pairs.image2).flows, pairs.flow, pairs.valid, gamma=0.8)
    torch.testing.assert_close(found.total, expected)
    assert set(found.parts) == {"epe", "residual"}


def test_the_error_is_of_pairs_whose_flow_is_known_somewhere() -> None:
    model, pairs = network().eval(), batch()
    pairs.valid[1] = False
    known = FlowBatch(*(tensor[[0, 2]] for tensor in (pairs.image1, pairs.image2, pairs.flow, pairs.valid)))
    found, expected = (objective()(model, (0, each)).parts["epe"] for each in (pairs, known))
    torch.testing.assert_close(found, expected)
    assert torch.as_tensor(found).shape == (2,)
    pairs.valid[:] = False
    losses = objective()(model, (0, pairs))
    assert torch.as_tensor(losses.parts["epe"]).shape == (0,)
    assert float(losses.total.detach()) == 0


def test_every_solve_in_a_row_is_supervised_and_teaches_all_weights() -> None:
    model, pairs = network(), batch()
    made = attempt(model, (pairs.image1, pairs.image2), None, CHOICE, 1.0)
    assert len(made.flows) == 2
    assert made.expansion is not None
    losses = objective(stabilise=CHOICE)(model, (90, pairs))
    losses.total.backward()
    untouched = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert untouched == [name for name in untouched if name.endswith("bias")]  # before a normalisation


def test_what_is_drawn_is_drawn_from_the_global_generator_alone() -> None:
    model, pairs = network(), batch()
    choice = objective(stabilise=CHOICE, coarser=Coarser(share=0.5))
    totals = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        totals.append(choice(model, (90, pairs)).total.item())
    assert totals[0] == totals[1] != totals[2]


def test_without_gradients_as_for_the_statistics_of_averaged_weights_nothing_is_penalised() -> None:
    with torch.no_grad():
        losses = objective(stabilise=CHOICE)(network(), (100, batch()))
    assert losses.total.isfinite()
    assert float(losses.parts["expansion"]) == 0


def test_solves_begin_elsewhere_and_contract_only_from_their_share_of_the_training_on() -> None:
    model, pairs = network(), batch()
    for number, expands in ((0, False), (54, True), (90, True)):
        parts = objective(stabilise=CHOICE)(model, (number, pairs)).parts
        assert (float(parts["expansion"]) > 0) is expands
    assert [CHOICE.contraction and CHOICE.contraction.at(p) for p in (0.5, 0.55, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.5, 1.0, 1.0]
    )


def test_another_adjoint_than_one_phantom_step_gives_the_same_ratio_at_its_own_state() -> None:
    pairs = batch()
    ratios = []
    for adjoint in (deq.Phantom(steps=1), deq.Phantom(steps=2)):
        torch.manual_seed(0)
        made = attempt(network(adjoint=adjoint), (pairs.image1, pairs.image2), None, replace(CHOICE, share=0.0), 1.0)
        assert made.expansion is not None
        ratios.append(made.expansion)
    assert all(ratio.isfinite().all() and (ratio > 0).all() for ratio in ratios)
    assert not torch.equal(*ratios)


def test_a_share_of_the_states_is_replaced() -> None:
    torch.manual_seed(0)
    state = torch.randn(200, 4, 12, 16), torch.randn(200, 2, 12, 16)
    hidden, flow = moved(state, replace(CHOICE, share=0.3))
    touched = (flow != state[1]).flatten(1).any(1)
    assert touched.float().mean() == pytest.approx(0.3, abs=0.1)
    assert torch.equal(hidden[~touched], state[0][~touched])


def test_a_coarser_scale_adds_its_loss_and_is_the_base_of_the_finer_one() -> None:
    model, pairs = network().eval(), batch()
    choice = objective(coarser=Coarser(share=1.0, disturbed=0.0))
    with torch.no_grad():
        found = choice(model, (0, pairs))
        small = halved(pairs)
        coarse = model(small.image1, small.image2)
        base = 2 * torch.nn.functional.interpolate(coarse.flow, (48, 64), mode="bilinear", align_corners=False)
        fine = model(pairs.image1, pairs.image2, base=base)
    losses = [
        sequence_loss(output.flows, some.flow, some.valid, gamma=0.8)
        for output, some in ((coarse, small), (fine, pairs))
    ]
    torch.testing.assert_close(found.total, losses[0] + losses[1])


def test_half_the_size_is_half_the_flow_of_the_pixels_that_are_known() -> None:
    flow = torch.arange(8.0).reshape(1, 2, 2, 2)
    valid = torch.tensor([[[True, False], [False, True]]])
    image = torch.zeros(1, 3, 2, 2)
    small = halved(FlowBatch(image, image, torch.where(valid[:, None], flow, torch.nan), valid))
    assert small.flow.flatten().tolist() == [0.75, 2.75]  # (0 + 3) / 2 / 2 and (4 + 7) / 2 / 2
    assert small.valid.all()
    assert not halved(FlowBatch(image, image, flow, valid & False)).valid.any()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_twice_the_size_is_twice_the_flow_of_half_of_the_pairs(share: float) -> None:
    pairs = batch()
    valid = torch.rand(pairs.valid.shape, generator=torch.Generator().manual_seed(2)) < share
    pairs = replace(pairs, flow=torch.full_like(pairs.flow, 1.5), valid=valid)
    coarse, fine = two_scales(pairs, enlarge=True)
    assert coarse is pairs
    assert fine.image1.shape == (2, 3, 96, 128)
    assert torch.equal(fine.valid[:, ::2, 1::2], valid[:2])
    assert (fine.flow.movedim(1, -1)[fine.valid] == 3.0).all()


@pytest.mark.parametrize("name", ["stabilise", "coarser"])
def test_every_field_changes_the_loss(name: str) -> None:
    model, pairs = network(stop=deq.Stop(4)).freeze_batch_norm(), batch(2, 32, 40)
    choices: dict[str, Any] = {"stabilise": CHOICE, "coarser": Coarser(share=0.6, enlarged=0.5, disturbed=0.7)}

    def outcome(one: Any) -> object:
        choice = objective(**{**choices, name: one})
        losses = []
        for number in (20, 52, 90):
            torch.manual_seed(number)
            losses.append(float(choice(model, (number, pairs)).total))
        return losses

    assert lost(choices[name], outcome) == []


@pytest.mark.parametrize(("kind", "choice"), [(Coarser, {"share": 2.0}), (Stabilise, {"share": -1.0})])
def test_shares_beyond_one_are_refused(kind: Any, choice: dict) -> None:
    with pytest.raises(ValueError, match="share"):
        kind(**choice)
