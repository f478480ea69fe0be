"""Every module, alone, agrees with the released code."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from tests.flow.parity import images, recorded, released_state, step_inputs
from torch import Tensor

from deq_flow.models.convert import from_released
from deq_flow.models.correlation import correlation
from deq_flow.models.network import positions

NAMES = [
    (variant, name)
    for variant in ("v2_b", "raft")
    for name in recorded("reference")["modules"][variant]
    if not name.startswith("corr_pyramid")  # no module computes it; the lookups read all four levels
]


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
        if variant == "raft":
            out["net0"] = torch.tanh(context[:, : size.hidden])
            context = context[:, size.hidden :]
        out["inp"] = torch.relu(context)
        lookup = correlation(fmap1, fmap2)
        out["lookup_zero"] = lookup(positions(fmap1).expand(2, -1, -1, -1))
        out["lookup_offset"] = lookup(positions(fmap1) + flow)
        out["motion"] = model.update_block.encoder(out["lookup_offset"], flow)
        out["step_h"], out["step_delta"] = model.update_block(hidden, out["inp"], out["lookup_offset"], flow)
        assert model.mask is not None
        out["mask"] = 0.25 * model.mask(out["step_h"])
        out["step_up"] = model.upsample(flow + out["step_delta"], out["step_h"])
    return out


@pytest.mark.parametrize(("variant", "name"), NAMES)
def test_module_agrees_with_the_release(variant: str, name: str) -> None:
    reference = recorded("reference")["modules"][variant][name]
    ours = outputs(variant)[name]
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


@pytest.mark.parametrize("variant", ["v2_b", "raft"])
def test_every_recorded_module_is_compared(variant: str) -> None:
    compared = {name for v, name in NAMES if v == variant}
    assert compared == set(outputs(variant))
