"""Reading token by token, with keys and values kept, gives the logits of the whole text."""

from typing import Any

import pytest
import torch
from tests.sequence.small import small, some_tokens
from torch import Tensor

import deq_core as deq
from deq_sequence.models.reader import Past, Reader

CONVERGED: dict[str, Any] = {"solver": deq.Anderson(), "stop": deq.Stop(300, tol=1e-12)}


def read(reader: Reader, tokens: Tensor, *lengths: int) -> Tensor:
    """Log-probabilities of tokens (B, T) read in pieces of these lengths."""
    past, parts = None, []
    for piece in tokens.split(list(lengths), dim=1):
        reading = reader.read(piece, past)
        past = reading.past
        parts.append(reading.log_probs)
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("lengths", [(1,) * 18, (18,), (10, *(1,) * 8), (1, 9, 5, 3)])
def test_a_text_read_in_pieces_has_the_logits_of_the_whole(norm: Any, lengths: tuple[int, ...]) -> None:
    model = small(norm=norm, **CONVERGED)
    tokens = some_tokens(length=18)
    with torch.no_grad():
        whole = model(tokens).log_probs
    torch.testing.assert_close(read(Reader(model, context=30), tokens, *lengths), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("horizon", [1000, 4])
def test_beyond_the_context_it_reads_as_with_a_memory(horizon: int) -> None:
    model = small(memory=6, horizon=horizon, **CONVERGED)
    tokens = some_tokens(length=20)
    memory, expected = None, []
    with torch.no_grad():
        for token in tokens.split(1, dim=1):
            output = model(token, memory)
            memory = output.memory
            expected.append(output.log_probs)
    found = read(Reader(model), tokens, *(1,) * 20)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=0, atol=1e-9)


def test_a_solve_that_stops_early_differs_by_its_residual() -> None:
    model = small(solver=deq.Anderson(), stop=deq.Stop(300, tol=1e-4), memory=30)
    tokens = some_tokens(length=12)
    with torch.no_grad():
        whole = model(tokens).log_probs
    difference = (read(Reader(model), tokens, *(1,) * 12) - whole).abs().max()
    assert 0 < difference < 1e-2


def test_a_further_token_costs_one_position(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(memory=30, **CONVERGED)
    reader = Reader(model)
    past = reader.read(some_tokens(length=12)).past
    seen: list[torch.Size] = []
    attend = model.cell.attention.forward
    monkeypatch.setattr(
        model.cell.attention, "forward", lambda state, context: (seen.append(state.shape), attend(state, context))[1]
    )
    reader.read(some_tokens(length=1), past)
    assert set(seen) == {torch.Size((2, 1, 16))}


def test_no_more_of_the_past_is_kept_than_is_seen() -> None:
    reader = Reader(small(memory=6, **CONVERGED))
    past = None
    for token in some_tokens(length=9).split(1, dim=1):
        past = reader.read(token, past).past
    assert past is not None
    assert len(past) == 6


def test_a_start_changes_the_work_and_not_the_logits() -> None:
    model = small(memory=30, **CONVERGED)
    reader = Reader(model)
    first, token = some_tokens(length=10), some_tokens(length=1, seed=1)
    past = reader.read(first).past
    cold = reader.read(token, past)
    warm = reader.read(token, past, start=cold.solution.value)
    assert warm.solution.nfe == 1
    assert cold.solution.nfe > 5
    torch.testing.assert_close(warm.log_probs, cold.log_probs, rtol=0, atol=1e-9)


def test_the_unrolled_transformer_reads_as_with_a_memory() -> None:
    model = small(memory=6, steps=3)
    tokens = some_tokens(length=10)
    memory, expected = None, []
    with torch.no_grad():
        for piece in tokens.split([4, 1, 5], dim=1):
            output = model(piece, memory)
            memory = output.memory
            expected.append(output.log_probs)
    found = read(Reader(model), tokens, 4, 1, 5)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=0, atol=1e-12)


def test_what_cannot_be_read_with_is_refused() -> None:
    with pytest.raises(ValueError, match=r"evaluation mode.*call model\.eval"):
        Reader(small().train())
    with pytest.raises(ValueError, match="without memory needs one given"):
        Reader(small(memory=0))
    reader = Reader(small())
    past = reader.read(some_tokens(batch=2)).past
    with pytest.raises(ValueError, match="same rows: expected 3, got 2"):
        reader.read(some_tokens(batch=3), past)
    assert isinstance(past, Past)
