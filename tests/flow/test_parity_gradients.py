"""Losses and gradients of whole training steps agree with the released code, configuration by configuration."""

from dataclasses import fields
from typing import Any

import pytest
from tests.flow.parity import images, released_state, target, variants
from torch import nn

from deq_flow.models.compat.convert import from_released
from deq_flow.models.compat.flags import equilibrium_of
from deq_flow.training.loss import sequence_loss

CONFIGURATIONS = [(variant, name) for variant, names in variants("train").items() for name in names]
RENAMES = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
    "cnet.layer2.0.downsample.1.": "cnet.layer2.0.norm3.",
    "cnet.layer3.0.downsample.1.": "cnet.layer3.0.norm3.",
}
OF_UNROLLED = {"update_block.gma.": "update_block.aggregator.", "attn.": "att."}


def assert_gradients_agree(model: nn.Module, reference: dict[str, Any], renames: dict[str, str]) -> None:
    recorded_norms = dict(reference["grad_norm_f64"])
    absolute = 1e-6 * reference["total_grad_norm_f64"]
    for name, parameter in model.named_parameters():
        for ours, theirs in renames.items():
            name = name.replace(ours, theirs)
        if name.startswith("mask.") and name not in recorded_norms:
            name = f"update_block.{name}"
        if not parameter.requires_grad:  # GMA's table of positions, which content-only attention does not use
            assert name not in recorded_norms, name
            continue
        assert parameter.grad is not None, name
        # Biases before an instance norm have no gradient but rounding, which the absolute part covers.
        expected = recorded_norms.pop(name)
        assert parameter.grad.norm().item() == pytest.approx(expected, rel=1e-3, abs=absolute), name
    assert not recorded_norms, "recorded parameters that our network lacks"


def options(variant: str, flags: dict[str, Any]) -> dict[str, Any]:
    """How our network is built to do what the released program does under `flags`."""
    if not variant.startswith("v"):
        return {"steps": 12}
    equilibrium = equilibrium_of("v1" if variant.startswith("v1") else "v2", {"wnorm": True, **flags})
    return {field.name: getattr(equilibrium, field.name) for field in fields(equilibrium)}


@pytest.mark.parametrize(("variant", "name"), CONFIGURATIONS)
def test_training_step_agrees_with_the_release(variant: str, name: str) -> None:
    reference = variants("train")[variant][name]
    model = from_released(released_state(variant), **options(variant, reference.get("config", {})))
    model.freeze_batch_norm().train()
    loss = sequence_loss(model(*images()).flows, *target(), gamma=0.8)
    loss.backward()
    assert loss.item() == pytest.approx(reference["loss_f64"], rel=1e-6)
    assert_gradients_agree(model, reference, RENAMES if variant.startswith("v") else RENAMES | OF_UNROLLED)
