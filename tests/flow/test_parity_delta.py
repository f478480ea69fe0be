"""The delta rule on DEQ-Flow-B agrees with the DeltaDEQ release: flow, residuals, and what its counters say."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.flow.parity import images, released_state
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config.delta import Rule
from deq_core.experiment.study.delta import FIELDS, Counted, delta_cell
from deq_flow.models.compat.convert import from_released
from deq_flow.models.deq_flow import DEQFlow

GOLDEN = Path(__file__).parents[1] / "golden" / "flow"
RELEASED = Rule(thresholds=(), reference="seen")
BLOCKS = {"encoder": "encoder.", "gru": "gru.", "flowhead": "flow_head."}
# What the release counts beside the layers under the rule: 1 for an output of relu, 3 of sigmoid, 10 of tanh, 2 for a
# gate, and flow_head.conv2, which it leaves dense.
BESIDE = {"encoder": 490_240, "gru": 2_949_120, "flowhead": 492_800}


@cache
def recorded() -> dict[str, Any]:
    return json.loads(gzip.decompress((GOLDEN / "delta.json.gz").read_bytes()))


def recorded_flow(run: str) -> Tensor:
    with np.load(GOLDEN / "delta.npz") as file:
        return torch.from_numpy(file[f"{run}_low"])


@cache
def network() -> DEQFlow:
    model = from_released(released_state("v2_b"), unknown="position")
    assert isinstance(model, DEQFlow)
    return model


@cache
def solved(threshold: float | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Flow on the grid, the residuals, and by block the counts of every evaluation."""
    model = network()
    block, meter = None, None
    if threshold is not None:
        block, meter = delta_cell(model.update_block, RELEASED, threshold, skip=("flow_head.conv2",))
    with torch.no_grad():
        with torch.enable_grad():  # both images as one batch, whose rounding the thresholds were compared with
            pair = model.encode(*images())
        start = model.start(pair)
        f = model.map(pair, block) if meter is None else Counted(model.map(pair, block), meter)

        def damped(*state: Tensor) -> tuple[Tensor, ...]:
            # The release's residual is that of the damped map, and its result that map's image.
            return tuple(0.1 * old + 0.9 * new for old, new in zip(state, f(*state), strict=True))

        stop = deq.Stop(max_steps=12, tol=1e-3)
        solution = deq.fixed_point(damped, start, solver=deq.FixedPointIteration(), stop=stop, on_failure="ignore")
    counts = {}
    if meter is not None and isinstance(f, Counted):
        for name, prefix in BLOCKS.items():
            layers = [index for index, layer in enumerate(meter.layers) if layer.startswith(prefix)]
            counts[name] = f.counts[:, layers].sum(dim=1)
    return solution.value[1] - start[1], solution.trace, counts


@pytest.mark.parametrize(
    ("run", "threshold", "flow_error", "residual_error"),
    [
        ("full", None, 5e-5, 1e-4),
        ("th0", 0.0, 5e-5, 1e-4),
        # Thresholding is discontinuous: an operation rounded otherwise moves the flow by up to 0.08 cells.
        ("th0.005", 0.005, 0.08, 0.02),
        ("th0.05", 0.05, 0.08, 0.02),
    ],
)
def test_flow_and_residuals_agree_with_the_release(
    run: str, threshold: float | None, flow_error: float, residual_error: float
) -> None:
    flow, trace, _ = solved(threshold)
    assert len(trace) == recorded()[run]["iters"]
    torch.testing.assert_close(flow, recorded_flow(run), rtol=0, atol=flow_error)
    # the release's trace begins with a placeholder
    expected = torch.tensor(recorded()[run]["rel_trace"])[1 : len(trace) + 1]
    torch.testing.assert_close(trace, expected, rtol=residual_error, atol=0)


@pytest.mark.parametrize(("run", "threshold"), [("th0.005", 0.005), ("th0.05", 0.05)])
@pytest.mark.parametrize("block", BLOCKS)
def test_counts_agree_with_those_of_the_release(run: str, threshold: float, block: str) -> None:
    """From the second evaluation: of the first, which is dense, the release calls zeros of the input skipped."""
    _, _, counts = solved(threshold)
    places = {name: FIELDS.index(name) for name in FIELDS}
    for number, row in enumerate(recorded()[run]["per_iter"]):
        zeros, elements, dense, sparse = row[block]
        ours = counts[block][number]
        assert ours[places["elements"]] == elements
        assert ours[places["release_dense"]] == dense - BESIDE[block]
        if number > 0:
            skipped = float(ours[places["elements"]] - ours[places["sent"]])
            assert skipped == pytest.approx(zeros, abs=1e-3 * elements)
            assert float(ours[places["release_sparse"]]) + BESIDE[block] == pytest.approx(sparse, abs=2e-3 * dense)


def test_the_true_count_has_the_kernel_areas_that_the_releases_lacks() -> None:
    """2,675,968 multiply-accumulates a cell for the block of DEQ-Flow-B; 4608 of them in the layer left dense."""
    _, _, counts = solved(0.005)
    cells = 2 * 16 * 20
    dense = sum(float(counts[block][0, FIELDS.index("dense_macs")]) for block in BLOCKS)
    assert dense == cells * (2_675_968 - 4608)
    release = sum(float(counts[block][0, FIELDS.index("release_dense")]) for block in BLOCKS)
    assert release < 0.2 * dense
