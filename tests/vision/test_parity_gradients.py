"""Losses and gradients of whole training steps agree with the released code, to rounding in float64."""

from typing import Any

import pytest
import torch
from tests.vision.parity import (
    CONVERGED,
    VARIANTS,
    assert_gradients,
    assert_summary,
    images,
    loss,
    network,
    probes,
    recorded,
)

import deq_core as deq
from deq_vision.models.compat.convert import renamed
from deq_vision.models.mdeq import MDEQ

ROUNDING = 1e-10


def training_step(
    variant: str, model: MDEQ, expected: dict[str, Any], *, steps: int | None = None, penalty: bool = False
) -> None:
    """Runs one and compares everything that was recorded of it."""
    model.train()
    assert model.head is not None
    injection = model.inject(images(variant))
    solution = model.solve(injection, steps=steps)
    logits = model.head(solution.value)
    value = loss(variant, logits)
    total = value
    if penalty:
        jacobian = model.jacobian_penalty(injection, solution, probes=probes(variant, solution.value))
        assert jacobian.item() == pytest.approx(expected["jac_loss"], rel=ROUNDING)
        total = value + jacobian
    total.backward()
    assert value.item() == pytest.approx(expected["loss"], rel=ROUNDING)
    assert_gradients(variant, model, expected["grads"], relative=ROUNDING)
    if "logits" in expected:
        assert_summary(logits, expected["logits"], relative=ROUNDING)
    statistics = model.state_dict()
    for name, summary in expected.get("bn_buffers_after", {}).items():
        (ours,) = (key for key in renamed({name: torch.empty(())}) if not key.endswith("tracked"))
        assert_summary(statistics[ours], summary, relative=ROUNDING)


def implicit(steps: int, tol: float | None, *, relative: bool) -> deq.Implicit:
    return deq.Implicit(solver=deq.Broyden(), stop=deq.Stop(steps, tol=tol, relative=relative))


@pytest.mark.parametrize("variant", VARIANTS)
def test_pretraining_agrees(variant: str) -> None:
    expected = recorded(variant)["train_unrolled"]
    training_step(variant, network(variant), expected, steps=expected["n_layers"])


@pytest.mark.parametrize("run", ["train_ift", "train_ift_jac"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_implicit_training_agrees(variant: str, run: str) -> None:
    relative = recorded(variant)["broyden18"]["stop_mode"] == "rel"
    model = network(
        variant, stop=deq.Stop(18, tol=None, relative=relative), adjoint=implicit(20, None, relative=relative)
    )
    training_step(variant, model, recorded(variant)[run], penalty=run.endswith("jac"))


@pytest.mark.parametrize("variant", CONVERGED)
def test_converged_gradients_agree_by_the_cores_rules_too(variant: str) -> None:
    expected = recorded(variant)["converged"]["train"]
    reached = max(residual for _, residual in expected["solver"])
    adjoint = implicit(90, reached, relative=True)
    model = network(variant, stop=deq.Stop(90, tol=reached), adjoint=adjoint, numerics="core").train()
    value = loss(variant, model(images(variant)).logits)
    value.backward()
    assert value.item() == pytest.approx(expected["loss"], rel=max(1e-10, reached))
    assert_gradients(variant, model, expected["grads"], relative=max(1e-9, 10 * reached))


@pytest.mark.parametrize("variant", CONVERGED)
def test_differentiating_broydens_own_steps_agrees(variant: str) -> None:
    # The recorded run adds 1e-7 to Broyden's denominators.
    expected = recorded(variant)["converged"]["train_unrolled_broyden_N6"]
    model = network(variant, stop=deq.Stop(expected["N"], tol=1e-6), adjoint=deq.Unrolled())
    model.train()
    output = model(images(variant))
    value = loss(variant, output.logits)
    value.backward()
    assert output.solution.trace[:, 0].tolist() == pytest.approx(expected["rel_trace"], rel=1e-7)
    assert value.item() == pytest.approx(expected["loss"], rel=1e-9)
    assert_gradients(variant, model, expected["grads"], relative=1e-8)
