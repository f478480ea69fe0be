"""A network with scales is run over them: in one call, at any number of steps, in lower precision; what that costs."""

from dataclasses import replace

import pytest
import torch
from tests.flow.small import equilibrium, unrolled
from torch import Tensor

from deq_core.experiment.config.layer import StopConfig
from deq_flow.config import Scales
from deq_flow.data.batches import FlowBatch
from deq_flow.data.samples import FlowSample
from deq_flow.evaluation.sequences import Frame, frame_row, summary
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference
from deq_flow.models import RAFT, DEQFlow
from deq_flow.models.scales import coarse_to_fine, evaluations
from deq_flow.studies.table import Evaluate, network_method

SCALES = Scales(coarsest=48)
"""Of frames of 64x96: these and their halves."""
FOUR = Inference(stop=StopConfig(max_steps=4), steps=4)


@pytest.fixture(params=[equilibrium, unrolled], ids=["deq", "raft"])
def network(request: pytest.FixtureRequest) -> DEQFlow | RAFT:
    network = request.param()
    network.scales = SCALES
    return network


def pair(height: int = 64, width: int = 96) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randint(256, (2, 1, 3, height, width), generator=generator, dtype=torch.uint8)
    return first, second


def test_an_estimator_runs_over_the_scales_of_its_network_or_those_it_is_given(network: DEQFlow | RAFT) -> None:
    with torch.no_grad():
        alone, scaled = network(*pair()), coarse_to_fine(network, *pair(), scales=SCALES)
        larger = coarse_to_fine(network, *pair(), scales=Scales(coarsest=200, finest=1.5))
    assert torch.equal(Estimator(network)(*pair()).flow, scaled.flow)
    assert torch.equal(Estimator(network, Inference(scales="one"))(*pair()).flow, alone.flow)
    chosen = Estimator(network, Inference(scales=Scales(coarsest=200, finest=1.5)))
    assert torch.equal(chosen(*pair()).flow, larger.flow)
    assert network.scales == SCALES


def test_frames_of_any_size_are_padded_before_they_are_reduced(network: DEQFlow | RAFT) -> None:
    estimate = Estimator(network, padding="bottom")
    first, second = pair(61, 94)
    found = estimate(first, second)
    assert found.flow.shape == (1, 2, 61, 94)
    assert [tuple(flow.shape[2:]) for _, flow in found.states] == [(8, 12), (16, 24)]


@pytest.mark.parametrize("scales", [None, SCALES])
def test_frames_of_two_sizes_are_refused(network: DEQFlow | RAFT, scales: Scales | None) -> None:
    network.scales = scales
    small, large = pair()[0], pair(80, 112)[1]
    for first, second in ((small, large), (large, small)):
        with pytest.raises(ValueError, match=r"images must be two tensors \(B, 3, H, W\) of one shape, got"):
            Estimator(network)(first, second)
        with pytest.raises(ValueError, match="images must be two tensors"):
            coarse_to_fine(network, first, second, scales=scales)


def test_a_state_without_its_scale_is_refused(network: DEQFlow | RAFT) -> None:
    estimate = Estimator(network)
    with pytest.raises(TypeError, match=r"states must be a state \(hidden, flow\) for each scale"):
        estimate(*pair(), estimate(*pair()).state)  # pyright: ignore[reportArgumentType]  # on purpose


def test_steps_are_those_of_the_finest_scale_and_one_solve_gives_all_of_them(network: DEQFlow | RAFT) -> None:
    estimate = Estimator(network, FOUR)
    flows = estimate(*pair(), steps=6, record=range(1, 7)).flows[:6]
    for count in (1, 4):
        assert torch.equal(flows[count - 1], estimate(*pair(), steps=count).flow)
    config = Evaluate(stop=StopConfig(max_steps=4), unrolled_steps=4, sweep=6)
    predicted = network_method(network, config)(FlowBatch.collate([sample()]))
    assert torch.equal(predicted.flow, estimate(*pair()).flow)
    assert len(predicted.trajectory) == 6


def sample() -> FlowSample:
    first, second = pair()
    valid = torch.ones(64, 96, dtype=torch.bool)
    return FlowSample(first[0], second[0], torch.zeros(2, 64, 96), valid, name="pair")


def test_an_evaluation_at_half_the_size_costs_a_quarter(network: DEQFlow | RAFT) -> None:
    estimate = Estimator(network, FOUR)
    row = frame_row(Frame("video", 1, sample(), estimate(*pair())), estimate)
    assert (row["iterations"], row["nfe"]) == (5.0, 5.0)
    if isinstance(network, DEQFlow):
        assert int(summary([row], ("sequence",))[0]["steps"]) <= 4  # pyright: ignore[reportArgumentType]
    one = Estimator(network, replace(FOUR, scales="one"))
    count = evaluations(one(*pair()), one.steps)
    assert (count, type(count)) == (4, int)


def test_a_pair_has_converged_where_all_scales_have() -> None:
    network = equilibrium()
    network.scales = SCALES
    loose, tight = (Estimator(network, Inference(stop=StopConfig(max_steps=1, tol=tol))) for tol in (1e3, 1e-9))
    output = loose(*pair())
    assert frame_row(Frame("video", 1, sample(), output), loose)["converged"]
    output = replace(output, coarser=tight(*pair()).coarser)
    assert not frame_row(Frame("video", 1, sample(), output), loose)["converged"]


def test_lower_precision_keeps_the_coarse_flow_whole(network: DEQFlow | RAFT, monkeypatch: pytest.MonkeyPatch) -> None:
    bases: list[Tensor] = []
    whole = type(network).encode

    def noting(self, image1: Tensor, image2: Tensor, base: Tensor | None = None):
        bases.extend([] if base is None else [base])
        return whole(self, image1, image2, base)

    monkeypatch.setattr(type(network), "encode", noting)
    rough = Estimator(network, replace(FOUR, precision="bfloat16"))(*pair()).flow
    full = Estimator(network, FOUR)(*pair()).flow
    assert {base.dtype for base in bases} == {torch.float32}
    assert 0 < float((full - rough).norm() / full.norm()) < 0.1
