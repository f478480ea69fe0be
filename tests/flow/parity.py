"""Weights, inputs and recorded numbers for comparisons with the released networks.

The numbers in tests/golden/flow were recorded by running the released code on a CPU (torch 2.13, one thread, float32).
Weights and inputs are drawn from the names of what they fill, so none are stored. Recordings of further variants are
compared too where there are any: files VARIANT.{modules,forward,train}.json and VARIANT.forward.npz in the folder that
the environment variable DEQ_FLOW_PARITY names, by default ../shared/parity/flow beside the checkout.
"""

import gzip
import json
import math
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden" / "flow"
FURTHER = Path(os.environ.get("DEQ_FLOW_PARITY", GOLDEN.parents[3] / "shared" / "parity" / "flow"))
ALIKE = {"v2_gma": "v2_b_gma", "v1_gma": "v1_b_gma", "delta_b": "v2_b", "delta_h": "v2_h"}
"""Recorded variants whose layout has another name."""


@cache
def recorded(name: str) -> dict[str, Any]:
    """What was recorded, by name.

    "keys": parameter names and shapes of every released variant; "solvers": the releases' solvers alone;
    "reference": modules, forward passes, training steps and losses of the variants that are kept here.
    """
    return json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))


@cache
def variants(kind: str) -> dict[str, Any]:
    """Recordings of "modules", "forward" passes or "train" steps by variant, the further ones last."""
    here = recorded("reference")[kind]
    names = [path.name.removesuffix(f".{kind}.json") for path in sorted(FURTHER.glob(f"*.{kind}.json"))]
    there = [name for name in names if name not in here and not name.startswith("delta")]
    return here | {name: json.loads((FURTHER / f"{name}.{kind}.json").read_text()) for name in there}


@cache
def recorded_arrays() -> dict[str, np.ndarray]:
    """Recorded flow by "variant/run_low" (whole) and "variant/run_up" (rows 1, 5, 9, ..., columns 2, 6, 10, ...)."""
    with np.load(GOLDEN / "forward.npz") as file:
        arrays = dict(file)
    for variant in variants("forward"):
        path = FURTHER / f"{variant}.forward.npz"
        if f"{variant}/iters12_low" not in arrays and f"{variant}/anderson12_low" not in arrays and path.exists():
            with np.load(path) as file:
                whole = {f"{variant}/{name}": file[name] for name in file}
            arrays |= {name: a[..., 1::4, 2::4] if name.endswith("_up") else a for name, a in whole.items()}
    return arrays


def normal(name: str, shape: tuple[int, ...] | list[int]) -> Tensor:
    """Standard normal float32 numbers, seeded by the CRC-32 of `name`."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(tuple(shape), generator=generator)


def released_state(variant: str) -> dict[str, Tensor]:
    """A state dict under the release's names, filled as the recordings were."""
    keys = recorded("keys")[ALIKE.get(variant, variant)]["keys"]
    deq = variant.startswith(("v", "delta"))
    state = {name: _filled(name, shape, dtype, gain=1.0 if deq else 0.6) for name, shape, dtype in keys}
    for name in state:  # one storage in the release; the name written last decides
        if ".norm3." in name and (alias := name.replace(".norm3.", ".downsample.1.")) in state:
            state[name] = state[alias]
    # Only what was run needed a fixed point; the small and the plain layouts were not.
    return _settled(state) if "update_block.gru.convq2.weight_v" in state else state


def _filled(name: str, shape: list[int], dtype: str, gain: float) -> Tensor:
    if dtype.startswith("int"):
        return torch.zeros(shape, dtype=torch.int64)
    numbers = normal(name, shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return 1 + 0.1 * numbers.abs()
    if leaf == "running_mean":
        return 0.1 * numbers
    if leaf == "weight_g":
        return 0.5 + 0.1 * numbers.abs()
    if len(shape) == 1 and leaf == "weight":
        return 1 + 0.1 * numbers
    if len(shape) <= 1:
        return 0.05 * numbers
    return numbers * gain / math.sqrt(max(1, math.prod(shape[1:])))


def _settled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Makes two hidden units follow the flow and the flow head subtract them, so that a stable fixed point exists."""
    block = "update_block."
    follow = state[block + "gru.convq2.weight_v"]
    follow[0, -2, 2, 0] = follow[1, -1, 2, 0] = 2.0
    state[block + "gru.convz2.bias"][0:2] += 4.0
    for unit, (source, value) in enumerate([(0, 2.0), (0, -2.0), (1, 2.0), (1, -2.0)]):
        state[block + "flow_head.conv1.weight_v"][unit, source, 1, 1] = value
        state[block + "flow_head.conv2.weight_v"][unit // 2, unit, 1, 1] = -0.35 if unit % 2 == 0 else 0.35
    state[block + "flow_head.conv1.weight_g"][0:4] *= 2.0
    state[block + "flow_head.conv2.weight_g"] *= 5.0
    return state


def smooth(x: Tensor, kernel: int = 9) -> Tensor:
    """Box filter with replicated borders, scaled to keep the variance of white noise."""
    pad = kernel // 2
    return kernel * F.avg_pool2d(F.pad(x, (pad, pad, pad, pad), mode="replicate"), kernel, 1)


def images(tag: str = "flow/img") -> tuple[Tensor, Tensor]:
    """Two frames (2, 3, 128, 160) in 0..255, the second moved by (3, 2) pixels with some noise."""
    base = smooth(normal(f"{tag}/base", (2, 3, 144, 176)))
    first = (127 + 60 * base[:, :, 8:136, 8:168]).clamp(0, 255)
    second = 127 + 60 * base[:, :, 6:134, 5:165] + 6 * normal(f"{tag}/noise", (2, 3, 128, 160))
    return first, second.clamp(0, 255)


def target() -> tuple[Tensor, Tensor]:
    """True flow (2, 2, 128, 160) with a corner of 500 pixels, and validity (2, 128, 160) of four fifths."""
    flow = 6 * smooth(normal("flow/gt", (2, 2, 128, 160)))
    flow[:, :, :4, :4] = 500.0
    return flow, (normal("flow/valid", (2, 128, 160)) > -0.8416).float()


def step_inputs(hidden: int) -> tuple[Tensor, Tensor]:
    """A hidden state and a flow on the 16x20 grid."""
    state = torch.tanh(normal(f"flow/h/{hidden}", (2, hidden, 16, 20)))
    return state, 2 * smooth(normal("flow/offset", (2, 2, 16, 20)), 3)


def predictions(number: int) -> list[Tensor]:
    """Flows (2, 2, 128, 160)."""
    return [6 * smooth(normal(f"flow/pred/{i}", (2, 2, 128, 160))) for i in range(number)]
