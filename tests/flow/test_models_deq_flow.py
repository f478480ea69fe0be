"""DEQ-Flow: corrections, chaining, sweeps over iterations, gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.small import equilibrium_model, store
from tests.flow.test_models_network import SMALL, pair

import deq_core as deq
from deq_flow.config import Equilibrium
from deq_flow.models import DEQFlow, build
from deq_flow.models.adjoints import PerState, SupervisedPhantom
from deq_flow.models.compat.numerics import Release, ReleasedImplicit
from deq_flow.networks import load


def network(**choices: Any) -> DEQFlow:
    torch.manual_seed(0)
    model = build("deq-flow-base", **SMALL, **choices).double()
    assert isinstance(model, DEQFlow)
    return model.freeze_batch_norm()


STOP = deq.Stop(max_steps=6, tol=None, relative=False)


@pytest.mark.parametrize("chaining", ["indexing", "sliced"])
def test_training_supervises_the_corrected_states_and_the_last(chaining: str) -> None:
    model = network(stop=STOP, correction=(2, 4), chaining=chaining).train()
    output = model(*pair())
    assert len(output.flows) == 3
    assert all(flow.requires_grad and flow.shape == (1, 2, 32, 40) for flow in output.flows)
    assert output.solution is not None
    assert len(output.solution.trace) == 6
    assert output.solution.nfe == 6 + 3  # one differentiated evaluation for each supervised state


def test_slices_start_from_what_the_adjoint_made_of_the_last_state() -> None:
    # With plain iteration and one phantom step, slices of 2, 2 and 2 evaluations see 0-2, 3-5 and 6-8 steps.
    sliced = network(stop=STOP, correction=(2, 4), chaining="sliced").train()(*pair())
    model = network(stop=STOP, eval_stop=deq.Stop(9, tol=None)).eval()
    with torch.no_grad():
        sweep = model(*pair(), record=(3, 6, 9))
    for ours, expected in zip(sliced.flows, sweep.flows[:3], strict=True):
        torch.testing.assert_close(ours, expected)


def test_indexing_records_the_states_of_one_solve() -> None:
    indexed = network(stop=STOP, correction=(2, 4), chaining="indexing").train()(*pair())
    model = network(stop=STOP, eval_stop=None).eval()
    with torch.no_grad():
        for ours, steps in zip(indexed.flows, (3, 5, 7), strict=True):
            torch.testing.assert_close(ours, model(*pair(), steps=steps).flow)


def test_resumed_slices_start_from_what_the_solver_returned() -> None:
    # With plain iteration that is what one solve passes through, and the phantom step leads aside.
    choices: dict[str, Any] = {"stop": STOP, "correction": (2, 4)}
    resumed, indexed = (network(chaining=how, **choices).train()(*pair()) for how in ("resumed", "indexing"))
    for ours, expected in zip(resumed.flows, indexed.flows, strict=True):
        torch.testing.assert_close(ours, expected)
    # A solver with a memory begins anew in every slice.
    choices["solver"] = deq.Anderson()
    resumed, indexed = (network(chaining=how, **choices).train()(*pair()) for how in ("resumed", "indexing"))
    torch.testing.assert_close(resumed.flows[0], indexed.flows[0])
    assert not torch.allclose(resumed.flows[1], indexed.flows[1])


def test_a_release_returns_the_argument_whose_image_is_the_best() -> None:
    outputs = {}
    for returned in ("best", "v1"):
        model = network(solver=deq.Anderson(), returned=returned, stop=STOP).eval()
        with torch.no_grad():
            outputs[returned] = model(*pair())
    assert model.equilibrium.eval_stop is None
    with torch.no_grad():
        step = model.map(model.encode(*pair()))
        image = step(*outputs["v1"].solution.value)
    torch.testing.assert_close(image, outputs["best"].solution.value)
    torch.testing.assert_close(outputs["v1"].solution.residual, outputs["best"].solution.residual)


@pytest.mark.parametrize("returned", ["v1", "v2", "delta"])
def test_gradients_are_those_of_the_state_a_release_returns(returned: str) -> None:
    model = network(solver=deq.Anderson(), returned=returned, stop=STOP, adjoint=deq.Phantom(1)).train()
    output = model(*pair())
    with torch.no_grad():
        state = model.eval()(*pair()).solution.value
    step = model.map(model.encode(*pair()))
    hidden, flow = step(*state)
    expected = model.upsample(flow, hidden)
    torch.testing.assert_close(output.flow, expected)
    gradients = [
        torch.autograd.grad(flows.square().sum(), list(model.parameters())) for flows in (output.flow, expected)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_release_has_no_unrolled_gradient() -> None:
    with pytest.raises(ValueError, match=r"returned='v2' picks a state .* no Unrolled\(\) gradient"):
        Equilibrium(returned="v2", adjoint=deq.Unrolled())


@pytest.mark.parametrize("release", ["v1", "v2"])
def test_the_released_implicit_gradient_is_the_solutions_at_one_evaluation_more(release: Release) -> None:
    torch.manual_seed(0)
    weight = (0.3 * torch.randn(5, 5, dtype=torch.float64)).requires_grad_()
    start, probe = torch.randn(2, 3, 5, dtype=torch.float64)

    def f(z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z @ weight.T + 1)

    def solved(adjoint: deq.Adjoint, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        solver, stop = deq.Anderson(), deq.Stop(steps, tol=None)
        value = deq.fixed_point(f, start, solver=solver, stop=stop, adjoint=adjoint).value
        (gradient,) = torch.autograd.grad((value * probe).sum(), weight)
        return value.detach(), gradient

    def released(tol: float, safe: bool = False) -> ReleasedImplicit:
        return ReleasedImplicit(deq.Broyden(), deq.Stop(60, tol, relative=False), release, safe)

    value, gradient = solved(deq.Implicit(stop=deq.Stop(60, tol=1e-12)), 3)
    stepped, same = solved(released(1e-13), 3)
    torch.testing.assert_close(stepped, f(value).detach())
    torch.testing.assert_close(same, gradient)
    safe, other = solved(released(1e-13, safe=True), 3)
    torch.testing.assert_close(safe, stepped)
    assert not torch.allclose(other, gradient)  # three steps do not reach the solution
    # A tolerance that any gradient meets leaves that of one step.
    torch.testing.assert_close(solved(released(1e9), 3)[1], solved(deq.Phantom(1), 3)[1])


def test_a_sweep_over_iterations_is_one_solve() -> None:
    model = network(eval_stop=deq.Stop(5, tol=None)).eval()
    with torch.no_grad():
        sweep = model(*pair(), record=range(1, 6))
        assert len(sweep.flows) == 6
        assert sweep.solution is not None
        assert sweep.solution.nfe == 5
        for steps, flow in enumerate(sweep.flows[:5], start=1):
            torch.testing.assert_close(flow, model(*pair(), steps=steps).flow)


def test_evaluation_has_its_own_stopping_rule_and_supervises_nothing() -> None:
    model = network(stop=STOP, correction=(2,), eval_stop=deq.Stop(4, tol=None)).eval()
    with torch.no_grad():
        output = model(*pair())
    assert output.solution is not None
    assert len(output.solution.trace) == 4
    assert len(output.flows) == 1


@pytest.mark.parametrize("solver", [deq.FixedPointIteration(0.1), deq.Anderson(), deq.Broyden()], ids=lambda s: s.kind)
def test_what_the_state_holds_changes_neither_flow_nor_residual(solver: deq.Solver) -> None:
    outputs = []
    for unknown in ("flow", "position"):
        model = network(solver=solver, unknown=unknown, eval_stop=STOP).eval()
        with torch.no_grad():
            outputs.append(model(*pair()))
    torch.testing.assert_close(outputs[1].flow, outputs[0].flow)
    torch.testing.assert_close(outputs[1].state, outputs[0].state)
    torch.testing.assert_close(outputs[1].solution.trace, outputs[0].solution.trace)


@pytest.mark.parametrize("gradient", ["detached", "full"])
def test_phantom_steps_are_unrolled_steps_from_the_solution(gradient: str) -> None:
    phantom = network(stop=STOP, adjoint=deq.Phantom(steps=3), flow_gradient=gradient).train()
    unrolled = network(stop=deq.Stop(3, tol=None), adjoint=deq.Unrolled(), flow_gradient=gradient).train()
    with torch.no_grad():
        solution = phantom(*pair()).state
    flows = (phantom(*pair()).flow, unrolled(*pair(), solution).flow)
    torch.testing.assert_close(flows[0], flows[1])
    gradients = [
        torch.autograd.grad(flow.square().sum(), list(model.parameters()))
        for model, flow in zip((phantom, unrolled), flows, strict=True)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_flow_a_step_starts_from_carries_gradient_only_where_asked() -> None:
    radii = []
    for gradient in ("detached", "full"):
        model = network(flow_gradient=gradient).eval()
        with torch.no_grad():
            encoded = model.encode(*pair())
            f, start = model.map(encoded), model.start(encoded)
        jacobian = torch.autograd.functional.jacobian(f, start)
        radii.append(jacobian[1][1].abs().max().item())
        assert jacobian[0][0].abs().max() > 0
    assert radii[0] == 0
    assert radii[1] > 0.5  # flow' = flow + change


@pytest.mark.parametrize("unknown", ["flow", "position"])
def test_a_leak_takes_its_share_of_the_flow_off_at_every_step(unknown: str) -> None:
    model = network(unknown=unknown).eval()
    leaking = network(unknown=unknown, leak=0.25).eval()
    with torch.no_grad():
        encoded = model.encode(*pair())
        hidden, start = model.start(encoded)
        start = start + torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=start.dtype)
        kept, left = (model.map(encoded)(hidden, start), leaking.map(encoded)(hidden, start))
    torch.testing.assert_close(left[0], kept[0])
    torch.testing.assert_close(left[1], kept[1] - 0.25 * model.flow_of(start, encoded))


def test_a_leak_is_stored_with_the_weights_that_need_it(tmp_path: Path) -> None:
    restored = load(store(tmp_path, equilibrium_model(leak=0.15)))
    assert isinstance(restored, DEQFlow)
    assert restored.equilibrium.leak == 0.15


def test_a_leak_beyond_the_whole_flow_is_refused() -> None:
    with pytest.raises(ValueError, match=r"leak must be from 0 .* to 1 .*, got 1\.5"):
        Equilibrium(leak=1.5)


def test_an_adjoint_for_each_state_is_used_for_that_state() -> None:
    adjoints = (deq.Phantom(1), deq.Phantom(2), deq.Phantom(3))
    for chaining in ("indexing", "sliced"):
        model = network(stop=STOP, correction=(2, 4), chaining=chaining, adjoint=adjoints).train()
        output = model(*pair())
        assert output.solution is not None
        assert output.solution.nfe == 6 + 1 + 2 + 3


def test_every_step_of_a_supervised_phantom_is_a_prediction() -> None:
    model = network(stop=STOP, correction=(2,), chaining="indexing", adjoint=SupervisedPhantom(steps=3)).train()
    output = model(*pair())
    assert len(output.flows) == 6
    plain = network(eval_stop=None).eval()
    with torch.no_grad():
        for flow, steps in zip(output.flows, (3, 4, 5, 7, 8, 9), strict=True):
            torch.testing.assert_close(flow, plain(*pair(), steps=steps).flow)


def test_a_supervised_phantom_ends_where_the_phantom_does() -> None:
    results = []
    for adjoint in (deq.Phantom(3, 0.4), SupervisedPhantom(3, 0.4)):
        model = network(stop=STOP, adjoint=adjoint).train()
        flow = model(*pair()).flow
        results.append((flow, torch.autograd.grad(flow.square().sum(), list(model.parameters()))))
    torch.testing.assert_close(results[1], results[0])


def test_one_adjoint_for_all_states_or_the_same_for_each_give_one_gradient() -> None:
    results = []
    for adjoint in (deq.Phantom(2), (deq.Phantom(2),) * 2):
        model = network(stop=STOP, correction=(3,), chaining="indexing", adjoint=adjoint).train()
        total = torch.stack(model(*pair()).flows).square().sum()
        results.append(torch.autograd.grad(total, list(model.parameters())))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("attention", ["none", "global"])
def test_another_update_block_takes_the_place_of_the_models(attention: str) -> None:
    model = network(attention=attention).eval()
    block, meter = deq.delta.to_delta(model.update_block, threshold=0.0)
    with torch.no_grad():
        encoded = model.encode(*pair())
        start = model.start(encoded)
        solutions = [
            deq.fixed_point(f, start, solver=deq.FixedPointIteration(), stop=STOP).value
            for f in (model.map(encoded), model.map(encoded, block))
        ]
    torch.testing.assert_close(solutions[1], solutions[0])
    assert 0 < meter.sparse_macs < meter.dense_macs


@pytest.mark.parametrize("correction", [(0, 3), (3, 3), (4, 2), (3, 6)])
def test_corrections_outside_the_solve_are_refused(correction: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"correction must ascend between 1 and stop.max_steps - 1 = 5"):
        Equilibrium(stop=STOP, correction=correction)


@pytest.mark.parametrize("chaining", ["indexing", "sliced"])
def test_fewer_steps_than_corrections_are_refused(chaining: str) -> None:
    model = network(stop=STOP, correction=(2, 4), chaining=chaining).train()
    with pytest.raises(ValueError, match="step 4"):
        model(*pair(), steps=3)


def test_a_wrong_number_of_adjoints_is_refused() -> None:
    with pytest.raises(ValueError, match="each of the 3 supervised states"):
        Equilibrium(stop=STOP, correction=(2, 4), adjoint=(deq.Phantom(), deq.Phantom()))
    with pytest.raises(ValueError, match="zip"):
        deq.fixed_point(torch.cos, torch.ones(1, 1, requires_grad=True), adjoint=PerState((deq.Phantom(),) * 2))
