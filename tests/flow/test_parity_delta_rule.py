"""DEQ-Flow under the delta rule, built and called as any other network, agrees with DeltaDEQ's released code."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from tests.flow.parity import images, recorded, recorded_arrays, released_state
from torch import Tensor

import deq_core as deq
from deq_flow.models.compat.convert import from_released
from deq_flow.models.deq_flow import DEQFlow
from deq_flow.models.network import FlowOutput, Pair

RECORDED = recorded("reference")["delta"]["b"]
THRESHOLDS = [0.0, 0.001, 0.005, 0.01, 0.05]
DENSE = ("flow_head.conv2",)
"""What the release leaves dense."""


@pytest.fixture(scope="module")
def model() -> DEQFlow:
    solver = deq.FixedPointIteration(damping=0.1)  # the release's KM iteration with alpha 0.9
    stop = deq.Stop(12, tol=1e-3, relative=True)
    network = from_released(released_state("v2_b"), solver=solver, stop=stop, unknown="position", returned="delta")
    assert isinstance(network, DEQFlow)
    return network


def run(model: DEQFlow, threshold: float | None) -> tuple[FlowOutput, deq.delta.DeltaMeter | None, dict[str, Any]]:
    reference = RECORDED["full" if threshold is None else f"th{threshold:g}"]
    block, meter = None, None
    if threshold is not None:
        block, meter = deq.delta.to_delta(model.update_block, threshold, skip=DENSE)
    encode = model.encode

    def as_one_batch(first: Tensor, second: Tensor, base: Tensor | None) -> Pair:
        with torch.enable_grad():  # both images together, as in the release: thresholds see the last bits
            return encode(first, second, base)

    with torch.no_grad(), patch.object(model, "encode", as_one_batch):
        return model(*images(), block=block), meter, reference


def distance(output: FlowOutput, name: str) -> float:
    return float((output.flow_low - torch.from_numpy(recorded_arrays()[f"delta_b/{name}_low"])).abs().max())


def test_without_the_rule_the_flow_is_the_releases(model: DEQFlow) -> None:
    output, _, _ = run(model, None)
    expected = torch.from_numpy(recorded_arrays()["delta_b/full_up"])
    torch.testing.assert_close(output.flow[..., 1::4, 2::4], expected, rtol=0, atol=5e-4)
    assert distance(output, "full") < 5e-5


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_flow_and_sparsity_are_the_releases(model: DEQFlow, threshold: float) -> None:
    output, meter, reference = run(model, threshold)
    assert meter is not None
    assert output.solution is not None
    assert output.solution.nfe == reference["iters"]
    # A threshold is a discontinuity: what differs in the last bit may be sent in one program and skipped in the other.
    band = reference["max_abs_diff_to_full_low"]
    assert distance(output, f"th{threshold:g}") < (0.5 * band if threshold else 5e-5)
    if threshold:
        assert distance(output, "full") == pytest.approx(band, rel=0.25)
    # The release counts the zeros of the first, dense evaluation as skipped; ours sends them.
    elements = sum(layer.elements for layer in meter.layers.values())
    assert elements == reference["summary"]["numel"]
    skipped = meter.sparsity * elements + reference["zeros"][0]
    assert skipped == pytest.approx(reference["summary"]["zeros"], rel=0.01)
