"""Attention and the cell are the formulas of the paper, written out position by position."""

import math
from typing import Any

import pytest
import torch
from tests.sequence.small import small
from torch import Tensor

from deq_sequence.models.attention import shifted
from deq_sequence.models.cell import TransformerCell, normalized
from deq_sequence.models.positions import sinusoids

LENGTH, PAST = 5, 4


def arguments(seed: int = 0, past: int = PAST) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """State, injection, memory and its injection for the small network."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, LENGTH, 16), (2, LENGTH, 48), (2, past, 16), (2, past, 48))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)  # pyright: ignore[reportReturnType]  four of them


def evaluate(cell: TransformerCell, state: Tensor, injection: Tensor, memory: Tensor, before: Tensor) -> Tensor:
    positions = sinusoids(memory.shape[1] + state.shape[1], 16, like=state)
    return cell(state, cell.context(injection, memory, before, positions))


def written_out(cell: TransformerCell, state: Tensor, injection: Tensor, memory: Tensor, before: Tensor) -> Tensor:
    """One evaluation of the cell for one sequence at a time, one query and one key at a time."""
    attention, pre = cell.attention, cell.norm == "pre"
    out = []
    for row in range(len(state)):
        seen = torch.cat([memory[row], state[row]])
        seen = normalized(seen) if pre else seen
        injected = seen @ attention.qkv.weight.T + torch.cat([before[row], injection[row]])
        query, key, value = (part.unflatten(-1, (2, 8)) for part in injected.chunk(3, dim=-1))
        rows = []
        for i in range(len(memory[row]), len(seen)):
            heads = []
            for head in range(2):
                keys = range(max(0, i - attention.horizon + 1), i + 1)
                scores = []
                for j in keys:
                    angles = (i - j) / 10000 ** (torch.arange(0, 16, 2, dtype=torch.float64) / 16)
                    distance = attention.position.weight @ torch.cat([angles.sin(), angles.cos()])
                    content = (query[i, head] + attention.content_bias[head]) @ key[j, head]
                    relative = (query[i, head] + attention.position_bias[head]) @ distance[8 * head : 8 * head + 8]
                    scores.append((content + relative) / math.sqrt(8))
                weights = torch.stack(scores).softmax(0)
                heads.append(sum(w * value[j, head] for w, j in zip(weights, keys, strict=True)))
            rows.append(attention.output(torch.cat(heads)))  # pyright: ignore[reportArgumentType]  sums of tensors
        out.append(torch.stack(rows))
    attended = torch.stack(out) + state
    layer = normalized(attended)  # after attention in one, before the layer in the other
    result = cell.contract(torch.relu(cell.expand(layer))) + layer
    return result if pre else normalized(result)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("horizon", [1000, 3])
@pytest.mark.parametrize("past", [0, PAST])
def test_the_cell_is_its_formula(norm: Any, horizon: int, past: int) -> None:
    cell = small(norm=norm, horizon=horizon).cell
    state, injection, memory, before = arguments(past=past)
    with torch.no_grad():
        found = evaluate(cell, state, injection, memory, before)
        expected = written_out(cell, state, injection, memory, before)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 4])
def test_shifting_puts_distances_where_positions_are(rows: int) -> None:
    columns = 6
    by_distance = torch.arange(columns - 1, -1, -1.0).expand(rows, columns)
    by_position = shifted(by_distance[None])[0]
    for i in range(rows):
        for j in range(columns - rows + i + 1):
            assert by_position[i, j] == columns - rows + i - j
