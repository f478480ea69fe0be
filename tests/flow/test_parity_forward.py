"""Whole forward passes agree with the released code, solver by solver."""

import re
from dataclasses import fields
from typing import Any

import pytest
import torch
from tests.flow.parity import images, recorded, recorded_arrays, released_state, variants

import deq_core as deq
from deq_flow.models.compat.convert import from_released
from deq_flow.models.compat.flags import equilibrium_of
from deq_flow.models.deq_flow import DEQFlow
from deq_flow.models.network import FlowOutput
from deq_flow.models.raft import RAFT

RUNS = [
    (variant, name)
    for variant, names in variants("forward").items()
    for name in names
    if variant.startswith("v") and re.fullmatch(r"[a-z]+\d+", name)
]
UNMEASURED = {"anderson": 2, "broyden": 1, "naive": 0}
"""Evaluations that a release makes before it measures."""


def deq_flow(variant: str = "v2_b", **choices: Any) -> DEQFlow:
    model = from_released(released_state(variant), **{"eval_stop": None, **choices})
    assert isinstance(model, DEQFlow)
    return model


def released(variant: str, name: str, **choices: Any) -> DEQFlow:
    """The network under the flags of a recorded run, such as anderson12."""
    solver, budget = re.fullmatch(r"([a-z]+)(\d+)", name).groups()  # pyright: ignore[reportOptionalMemberAccess]
    solver = "naive_solver" if solver == "naive" else solver
    flags = {"f_solver": solver, "f_thres": int(budget), "wnorm": True}
    equilibrium = equilibrium_of("v1" if variant.startswith("v1") else "v2", flags)
    named = {field.name: getattr(equilibrium, field.name) for field in fields(equilibrium)}
    return deq_flow(variant, **named | {"eval_stop": None} | choices)


def assert_agrees(output: FlowOutput, run: str, *, low: float, up: float) -> None:
    arrays = recorded_arrays()
    torch.testing.assert_close(output.flow_low, torch.from_numpy(arrays[f"{run}_low"]), rtol=0, atol=low)
    if f"{run}_up" in arrays:
        expected = torch.from_numpy(arrays[f"{run}_up"])
        torch.testing.assert_close(output.flow[..., 1::4, 2::4], expected, rtol=0, atol=up)


@pytest.mark.parametrize(("variant", "name"), RUNS)
def test_flow_agrees_with_the_release(variant: str, name: str) -> None:
    reference = variants("forward")[variant][name]
    model = released(variant, name)
    with torch.no_grad():
        output = model(*images())
    assert_agrees(output, f"{variant}/{name}", low=10 * reference["noise_low"], up=10 * reference["noise_up"])
    hidden = output.state[0].double()
    for statistic, ours in {"mean": hidden.mean(), "std": hidden.std(), "absmax": hidden.abs().max()}.items():
        assert ours.item() == pytest.approx(reference["h"][statistic], rel=1e-4, abs=1e-5)
    if variant.startswith("v2"):
        assert output.solution is not None
        trace = torch.tensor(reference["abs_trace"][1:])  # it begins with a placeholder
        ours = output.solution.trace[UNMEASURED[re.sub(r"\d", "", name)] :]
        torch.testing.assert_close(ours, trace, rtol=1e-2 if "broyden" in name else 1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["naive24", "anderson12"])
def test_what_the_release_returns_is_the_best_state_where_the_residual_falls(name: str) -> None:
    # So the flow is the release's too with the choices that are better in other cases.
    reference = variants("forward")["v2_b"][name]
    model = released("v2_b", name, returned="best", unknown="flow")
    with torch.no_grad():
        output = model(*images())
    assert_agrees(output, f"v2_b/{name}", low=10 * reference["noise_low"], up=10 * reference["noise_up"])


def test_relative_residuals_are_the_releases_where_the_state_holds_positions() -> None:
    reference = recorded("reference")["forward"]["v2_b"]["naive12"]
    residuals = {}
    for unknown in ("flow", "position"):
        model = deq_flow(stop=deq.Stop(12, tol=None, relative=True), unknown=unknown)
        with torch.no_grad():
            solution = model(*images()).solution
        assert solution is not None
        residuals[unknown] = solution.residual
    torch.testing.assert_close(residuals["position"], torch.tensor(reference["rel_lowest"]), rtol=1e-3, atol=0)
    assert (residuals["flow"] > 5 * residuals["position"]).all()


def test_reused_states_agree_with_the_release() -> None:
    model = deq_flow(stop=deq.Stop(8, tol=None))
    warped = torch.from_numpy(recorded_arrays()["v2_b/forward_interpolate"])
    with torch.no_grad():
        first = model(*images())
        second = images("flow/img2")
        hidden, _ = first.state
        warm = model(*second, (torch.zeros_like(hidden), warped))
        reused = model(*second, (hidden, warped))
    noise = recorded("reference")["forward"]["v2_b"]["naive12"]
    tolerance = {"low": 10 * noise["noise_low"], "up": 10 * noise["noise_up"]}
    assert_agrees(first, "v2_b/reuse_first", **tolerance)
    assert_agrees(warm, "v2_b/warm", **tolerance)
    assert_agrees(reused, "v2_b/reuse", **tolerance)


@pytest.mark.parametrize("gradient", ["detached", "full"])
def test_spectral_radius_agrees_with_the_release(gradient: str) -> None:
    name = {"detached": "sradius_default_detach", "full": "sradius_all_grad"}[gradient]
    reference = torch.tensor(recorded("reference")["forward"]["v2_b"][name])
    model = deq_flow(stop=deq.Stop(24, tol=None), flow_gradient=gradient)
    with torch.no_grad():
        pair = model.encode(*images())
        f = model.map(pair)
        value = deq.fixed_point(
            f, model.start(pair), solver=deq.FixedPointIteration(), stop=model.equilibrium.stop
        ).value
    # The release's is that of the Jacobian which gradients see.
    radius = deq.nn.spectral_radius(f, value, method="autograd", generator=torch.Generator().manual_seed(0))
    # A power method stopped after 75 steps from a random start: two starts differ by per cents.
    torch.testing.assert_close(radius, reference, rtol=0.05, atol=0)


@pytest.mark.parametrize("variant", [name for name in variants("forward") if not name.startswith("v")])
def test_unrolled_flow_agrees_with_the_release(variant: str) -> None:
    model = from_released(released_state(variant))
    assert isinstance(model, RAFT)
    noise = variants("forward")[variant]["iters12"]
    with torch.no_grad():
        output = model(*images(), steps=12)
    assert_agrees(output, f"{variant}/iters12", low=10 * noise["noise_low"], up=10 * noise["noise_up"])
