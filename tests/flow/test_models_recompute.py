"""Encoders that backward runs again: the same gradients and statistics, and less that is kept."""

from typing import Any

import pytest
import torch
from benchmarks.flow.saved_bytes import saved_bytes
from torch import Tensor

from deq_flow import build, sequence_loss
from deq_flow.models import RAFT, DEQFlow


def frames() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = 255 * torch.rand(2, 2, 3, 32, 48, generator=generator)
    return first, second


def network(name: str, **choices: Any) -> DEQFlow | RAFT:
    torch.manual_seed(0)
    return build(name, **choices).double().train()


@pytest.mark.parametrize("name", ["deq-flow-mini", "raft-mini"])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_and_running_statistics_are_the_same(name: str, frozen: bool) -> None:
    results = []
    for recompute in (False, True):
        model = network(name, recompute=recompute, dropout=0.2).freeze_batch_norm(frozen)
        torch.manual_seed(1)  # of the dropout
        flows = model(*frames()).flows
        sequence_loss(flows, torch.ones_like(flows[0]), torch.ones(2, 32, 48, dtype=torch.bool)).backward()
        gradients = {key: value.grad for key, value in model.named_parameters()}
        results.append((gradients, dict(model.named_buffers())))
    for plain, again in zip(*results, strict=True):
        largest = max(float(value.abs().max()) for value in plain.values())
        for key, value in plain.items():
            torch.testing.assert_close(again[key], value, rtol=0, atol=1e-12 * largest, msg=key)


def test_what_is_kept_is_less_by_the_encoders_that_run_again() -> None:
    def saved(frozen: bool, **choices: Any) -> int:
        return saved_bytes(network("deq-flow-mini", **choices).freeze_batch_norm(frozen), *frames())

    kept, half, none = saved(True), saved(False, recompute=True), saved(True, recompute=True)
    assert half < kept, "batch normalisation that gathers statistics keeps the context encoder"
    assert none < half


def test_evaluation_is_as_without() -> None:
    outputs = []
    for recompute in (False, True):
        model = network("deq-flow-mini", recompute=recompute).eval()
        with torch.no_grad():
            outputs.append(model(*frames()).flow)
    assert torch.equal(*outputs)
