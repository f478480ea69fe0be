"""Every module, alone, agrees with the released code."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from einops import rearrange
from tests.flow.parity import images, released_state, step_inputs, variants
from torch import Tensor

from deq_flow.models.compat.convert import from_released
from deq_flow.models.lookup.correlation import AllPairs, correlation
from deq_flow.models.network import positions
from deq_flow.models.raft import RAFT

NAMES = [(variant, name) for variant, names in variants("modules").items() for name in names]


@cache
def outputs(variant: str) -> dict[str, Tensor]:
    """What our modules make of the recorded inputs, by recorded name."""
    model = from_released(released_state(variant))
    size = model.size
    scaled = [2 * (image / 255) - 1 for image in images()]
    hidden, flow = step_inputs(size.hidden)
    with torch.no_grad():
        fmap1, fmap2 = model.fnet(torch.cat(scaled)).chunk(2)
        context = model.cnet(scaled[0])
        out = {"fmap1": fmap1, "fmap2": fmap2}
        if isinstance(model, RAFT):
            out["net0"] = torch.tanh(context[:, : size.hidden])
            context = context[:, size.hidden :]
        out["inp"] = torch.relu(context)
        if model.attn is not None:
            out["attn"] = model.attn(out["inp"])
        lookup = correlation(fmap1, fmap2, radius=size.radius, kind="all-pairs")
        with torch.enable_grad():
            stored = correlation(fmap1, fmap2, radius=size.radius, kind="all-pairs")
        assert isinstance(stored, AllPairs)
        first = 0
        for k, (height, width) in enumerate(stored.sizes):
            entries = height * (width + stored.side)  # every row behind as many zeros as a window is wide
            rows = rearrange(stored.volume[:, first : first + entries], "n (h w) -> n 1 h w", h=height)
            out[f"corr_pyramid{k}"] = rows[..., stored.side :]
            first += entries
        out["lookup_zero"] = lookup(positions(fmap1).expand(2, -1, -1, -1))
        out["lookup_offset"] = lookup(positions(fmap1) + flow)
        out["motion"] = model.update_block.encoder(out["lookup_offset"], flow)
        arguments = (hidden, out["inp"], out["lookup_offset"], flow, out.get("attn"))
        out["step_h"], out["step_delta"] = model.update_block(*arguments)
        if model.mask is not None:
            out["mask"] = 0.25 * model.mask(out["step_h"])
        out["step_up"] = model.upsample(flow + out["step_delta"], out["step_h"])
    return out


@pytest.mark.parametrize(("variant", "name"), NAMES)
def test_module_agrees_with_the_release(variant: str, name: str) -> None:
    reference = variants("modules")[variant][name]
    ours = outputs(variant)[name]
    if name == "attn":  # with one head the release keeps an axis for it
        ours = ours.view(reference["shape"])
    assert list(ours.shape) == reference["shape"]
    tolerance = 10 * reference["noise_f32_vs_f64"]
    values = ours.flatten()[reference["flat_idx"]]
    torch.testing.assert_close(values, torch.tensor(reference["values"]), rtol=0, atol=tolerance)
    statistics: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": Tensor.mean,
        "std": Tensor.std,
        "absmax": lambda x: x.abs().max(),
    }
    for statistic, function in statistics.items():
        assert function(ours.double()).item() == pytest.approx(reference[statistic], rel=1e-6, abs=tolerance), statistic


@pytest.mark.parametrize("variant", list(variants("modules")))
def test_every_recorded_module_is_compared(variant: str) -> None:
    compared = {name for v, name in NAMES if v == variant}
    assert compared == set(outputs(variant))
