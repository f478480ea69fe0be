"""Weights, inputs and recorded numbers for comparisons with the released DEQ-Transformer.

The numbers in tests/golden/sequence were recorded by running the released code on a CPU in float64. Weights and inputs
are drawn from the names of what they fill, so none are stored.
"""

import gzip
import json
import math
import zlib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deq_sequence.models.compat.convert import from_released
from deq_sequence.models.positions import frequencies
from deq_sequence.models.transformer import DEQTransformer, Memory

GOLDEN = Path(__file__).parents[1] / "golden" / "sequence"
FURTHER = Path(__file__).parents[3] / "shared" / "parity" / "sequence"
"""Where further recordings may lie, such as those of the pre-LN network."""

Norm = Literal["post", "pre"]


@cache
def recorded() -> dict[str, Any]:
    """Settings, shapes and numbers; see the README beside the file."""
    found = json.loads(gzip.decompress((GOLDEN / "reference.json.gz").read_bytes()))
    for path, into in (("deq_transformer.json", found), ("deq_transformer.converged.json", found["converged"])):
        if (FURTHER / path).exists():
            into |= {**json.loads((FURTHER / path).read_text()), **into}
    return found


NORMS: tuple[Norm, ...] = tuple(norm for norm in ("post", "pre") if f"{norm}_lnorm" in recorded()["converged"])
"""The networks there are recordings of."""


@cache
def recorded_arrays(norm: Norm) -> dict[str, np.ndarray]:
    path = GOLDEN / f"{norm}.npz"
    with np.load(path if path.exists() else FURTHER / f"deq_transformer_{norm}.npz") as file:
        return dict(file)


def normal(name: str, shape: tuple[int, ...] | list[int], scale: float = 1.0) -> Tensor:
    """Normal float32 numbers, seeded by the CRC-32 of `name`."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(tuple(shape), generator=generator) * scale


def released_state() -> dict[str, Tensor]:
    """The small network's state dict under the release's names, filled as the recordings were."""
    shapes = recorded()["keys"]
    state = {name: _filled(name, shape) for name, shape in shapes.items()}
    state["pos_emb.inv_freq"] = frequencies(64, torch.float32, torch.device("cpu"))
    for cluster in range(3):
        state[f"crit.out_layers.{cluster}.weight"] = state[f"word_emb.emb_layers.{cluster}.weight"]
    for cluster in (1, 2):
        state[f"crit.out_projs.{cluster}.weight"] = state[f"word_emb.emb_projs.{cluster}.weight"]
    return state


def _filled(name: str, shape: list[int]) -> Tensor:
    numbers = normal(name, shape)
    if name.endswith("weight_g"):
        return 0.5 + 0.1 * numbers.abs()
    if len(shape) <= 1:
        return 0.05 * numbers
    return numbers * 0.5 / math.sqrt(math.prod(shape[1:]))


def released_model(norm: Norm, **overrides: Any) -> DEQTransformer:
    """The small network with the recordings' weights, float64, in evaluation mode."""
    return from_released(released_state(), norm=norm, dropout=0.0, memory=20, **overrides).double()


def segment(k: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets (2, 20) of segment k = 0, 1, 2."""
    time, row = torch.arange(20 * k, 20 * k + 21)[None], torch.arange(2)[:, None]
    tokens = (37 * time + 101 * row + 11 + time * time % 53) % 1000
    return tokens[:, :-1], tokens[:, 1:]


def recorded_memory() -> Memory:
    """The random memory that training steps were recorded with."""
    states, injections = normal("seq.mem.z", (20, 2, 64)), normal("seq.mem.u", (20, 2, 192), 0.5)
    return Memory(states.transpose(0, 1).double(), injections.transpose(0, 1).double())
