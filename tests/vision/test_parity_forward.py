"""Stem, f, head and solves agree with the released code, to rounding in float64."""

import pytest
import torch
from tests.vision.parity import (
    CONVERGED,
    RECIPES,
    VARIANTS,
    assert_summary,
    branches,
    images,
    network,
    normal,
    recorded,
)

import deq_core as deq
from deq_vision.models.mdeq import MDEQ

# Two programs that solve alike part by what rounding grows to in 18 steps.
MODULE, SOLVE = 1e-12, 1e-9


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("variant", VARIANTS)
def test_stem_f_and_head_agree(variant: str) -> None:
    model, expected = network(variant, contractive=False), recorded(variant)["plain_fill"]
    assert model.head is not None
    injection, state = model.inject(images(variant)), branches(variant, model)
    assert isinstance(injection, torch.Tensor)
    assert_summary(injection, expected["injection"], relative=MODULE)
    zeros = model.start(injection)
    for start, name in ((state, "f_of_z"), (zeros, "f_of_zero")):
        for branch, summary in zip(model.cell(*start, injection), expected[name], strict=True):
            assert_summary(branch, summary, relative=MODULE)
    assert_summary(model.head(state), expected["head_of_z"], relative=MODULE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_f_agrees_where_it_contracts(variant: str) -> None:
    model = network(variant)
    state = branches(variant, model)
    for branch, summary in zip(
        model.cell(*state, model.inject(images(variant))), recorded(variant)["f_of_z"], strict=True
    ):
        assert_summary(branch, summary, relative=MODULE)


def assert_solve(model: MDEQ, variant: str, run: str, **call: int) -> deq.Solution:
    expected, output = recorded(variant)[run], model(images(variant), **call)
    assert_summary(output.logits, expected["logits"], relative=SOLVE)
    for branch, summary in zip(output.state, expected["z"], strict=True):
        assert_summary(branch, summary, relative=SOLVE)
    return output.solution


@pytest.mark.parametrize("variant", RECIPES)
def test_every_recipe_converges_as_far_as_its_recording(variant: str) -> None:
    recipe = RECIPES[variant]
    model = network(variant, stop=deq.Stop(18, tol=None)).float()
    x = images(variant).float()
    assert model(x, steps=18).solution.residual[0].item() == pytest.approx(recipe.plain, rel=0.02)
    assert model(x).solution.residual[0].item() == pytest.approx(recipe.broyden, rel=0.02)


@pytest.mark.parametrize("variant", VARIANTS)
def test_plain_iteration_agrees(variant: str) -> None:
    solution = assert_solve(network(variant), variant, "picard18", steps=18)
    trace = [entry["rel"] for entry in recorded(variant)["picard18"]["trace"]]
    assert solution.trace[:, 0].tolist() == pytest.approx(trace, rel=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_broyden_agrees(variant: str) -> None:
    expected = recorded(variant)["broyden18"]
    relative = expected["stop_mode"] == "rel"
    model = network(variant, stop=deq.Stop(18, tol=None, relative=relative))
    solution = assert_solve(model, variant, "broyden18")
    trace = expected[f"{expected['stop_mode']}_trace"][:18]
    assert solution.trace[:, 0].tolist() == pytest.approx(trace, rel=1e-6)
    assert solution.steps.tolist() == [expected["nstep"]] * len(solution.steps)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_model_as_it_is_built_stops_where_the_released_one_does(variant: str) -> None:
    expected, model = recorded(variant)["model_eval_default"], network(variant)
    stop = model.equilibrium.stop
    assert (stop.max_steps, stop.tol, stop.relative) == (
        expected["f_thres"],
        expected["eps"],
        expected["stop_mode"] == "rel",
    )
    assert_summary(model(images(variant)).logits, expected["logits"], relative=SOLVE)


@pytest.mark.parametrize("variant", CONVERGED)
@pytest.mark.parametrize("solver", [deq.Broyden(), deq.Anderson()], ids=["broyden", "anderson"])
def test_any_solver_reaches_the_equilibrium(variant: str, solver: deq.Solver) -> None:
    expected = recorded(variant)["converged"]["eval"]
    tolerance = 10 * expected["rel"]
    model = network(variant, solver=solver, stop=deq.Stop(90, tol=tolerance), numerics="core")
    output = model(images(variant))
    assert output.solution.converged.all()
    for branch, summary in zip(output.state, expected["z"], strict=True):
        assert_summary(branch, summary, relative=10 * tolerance)
    assert_summary(output.logits, expected["logits"], relative=10 * tolerance)


@pytest.mark.parametrize("variant", CONVERGED)
def test_the_jacobian_at_equilibrium_agrees(variant: str) -> None:
    # The release's power method returns the Rayleigh quotient |v.Jᵀv| / |v|², not a growth rate.
    expected = recorded(variant)["converged"]["eval"]
    model = network(variant, stop=deq.Stop(90, tol=expected["rel"]), numerics="core")
    injection = model.inject(images(variant))
    z = model.solve(injection).value
    sizes = [branch[0].numel() for branch in z]
    v = normal(f"{variant}.power_start", (len(z[0]), sum(sizes), 1)).flatten(1)
    with torch.enable_grad():
        arguments = [branch.requires_grad_() for branch in z]
        image = torch.cat([branch.flatten(1) for branch in model.cell(*arguments, injection)], dim=1)
        found = v.new_zeros(len(v))
        for _ in range(60):
            products = torch.autograd.grad(image, arguments, v, retain_graph=True)
            product = torch.cat([part.flatten(1) for part in products], dim=1)
            found = (product * v).sum(1).abs() / v.square().sum(1)
            v = product / product.norm(dim=1, keepdim=True)
    assert found.tolist() == pytest.approx(expected["power_method_60"], rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_single_precision_differs_by_its_rounding_alone(variant: str) -> None:
    model = network(variant).float()
    state = tuple(branch.float() for branch in branches(variant, network(variant)))
    for branch, summary in zip(
        model.cell(*state, model.inject(images(variant).float())), recorded(variant)["f_of_z"], strict=True
    ):
        assert_summary(branch, summary, relative=3e-6)
    logits = model(images(variant).float(), steps=18).logits
    assert_summary(logits, recorded(variant)["picard18"]["logits"], relative=1e-5)
