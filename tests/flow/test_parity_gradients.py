"""Losses and gradients of whole training steps agree with the released code, configuration by configuration."""

from typing import Any

import pytest
from tests.flow.parity import images, recorded, released_state, target
from torch import nn

import deq_core as deq
from deq_flow.loss import sequence_loss
from deq_flow.models.adjoints import SupervisedPhantom
from deq_flow.models.convert import from_released

RELEASED_ANDERSON = deq.Anderson(window=6, ridge=1e-4, relative_ridge=False)


def implicit(solver: deq.Solver, steps: int) -> deq.Implicit:
    return deq.Implicit(solver=solver, stop=deq.Stop(steps, tol=1e-6, relative=False))


# The release's implicit gradient returns f(z) for the z it solved, the core z itself: one step more gives the same.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "pg1_naive12": {"stop": 12},
    "pg1_naive12_n3": {"stop": 12, "correction": (4, 8)},
    "pg3_naive12_n2_allgrad": {
        "stop": 12,
        "correction": (6,),
        "adjoint": deq.Phantom(steps=3),
        "flow_gradient": "full",
    },
    "pg2_tau07_supall": {"stop": 12, "adjoint": SupervisedPhantom(steps=2, damping=0.3)},
    "indexing_anderson12_at4_8": {
        "stop": 12,
        "solver": RELEASED_ANDERSON,
        "chaining": "indexing",
        "correction": (4, 8),
        "adjoint": (deq.Phantom(1), deq.Phantom(1), deq.Phantom(2)),
    },
    "ift_hook_anderson": {"stop": 25, "adjoint": implicit(RELEASED_ANDERSON, 30)},
    "ift_hook_naive": {"stop": 25, "adjoint": implicit(deq.FixedPointIteration(), 60)},
    "ift_safe_broyden": {"stop": 25, "adjoint": implicit(deq.Broyden(), 30)},
}


def assert_gradients_agree(model: nn.Module, reference: dict[str, Any], *, renames: dict[str, str]) -> None:
    recorded_norms = dict(reference["grad_norm_f64"])
    absolute = 1e-6 * reference["total_grad_norm_f64"]
    for name, parameter in model.named_parameters():
        for ours, theirs in renames.items():
            name = name.replace(ours, theirs)
        assert parameter.grad is not None, name
        # Biases before an instance norm have no gradient but rounding, which the absolute part covers.
        expected = recorded_norms.pop(name)
        assert parameter.grad.norm().item() == pytest.approx(expected, rel=1e-3, abs=absolute), name
    assert not recorded_norms, "recorded parameters that our network lacks"


@pytest.mark.parametrize("name", list(CONFIGURATIONS))
def test_training_step_agrees_with_the_release(name: str) -> None:
    reference = recorded("reference")["train"]["v2_b"][name]
    choices = dict(CONFIGURATIONS[name])
    stop = deq.Stop(choices.pop("stop"), tol=None, relative=False)
    model = from_released(released_state("v2_b"), stop=stop, **choices)
    model.freeze_batch_norm().train()
    output = model(*images())
    loss = sequence_loss(output.flows, *target(), gamma=0.8)
    loss.backward()
    assert loss.item() == pytest.approx(reference["loss_f64"], rel=1e-6)
    renames = {
        ".parametrizations.weight.original0": ".weight_g",
        ".parametrizations.weight.original1": ".weight_v",
        "cnet.layer2.0.downsample.1.": "cnet.layer2.0.norm3.",
        "cnet.layer3.0.downsample.1.": "cnet.layer3.0.norm3.",
    }
    assert_gradients_agree(model, reference, renames=renames)


def test_every_recorded_configuration_is_compared() -> None:
    assert set(CONFIGURATIONS) == set(recorded("reference")["train"]["v2_b"])


def test_raft_training_step_agrees_with_the_release() -> None:
    reference = recorded("reference")["train"]["raft"]["iters12"]
    model = from_released(released_state("raft"), steps=12)
    model.freeze_batch_norm().train()
    loss = sequence_loss(model(*images()).flows, *target(), gamma=0.8)
    loss.backward()
    assert loss.item() == pytest.approx(reference["loss_f64"], rel=1e-6)
    renames = {
        "mask.": "update_block.mask.",
        "cnet.layer2.0.downsample.1.": "cnet.layer2.0.norm3.",
        "cnet.layer3.0.downsample.1.": "cnet.layer3.0.norm3.",
    }
    assert_gradients_agree(model, reference, renames=renames)
