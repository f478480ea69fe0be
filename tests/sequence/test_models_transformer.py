"""Laws of the language model: causality, memory, gradients, and what is computed once per solve."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_sequence import DEQTransformer, Memory
from deq_sequence.models.attention import RelativeAttention
from deq_sequence.models.transformer import unrolled

TIGHT = {"solver": deq.Anderson(), "stop": deq.Stop(300, tol=1e-12)}
EXACT = deq.Implicit(stop=deq.Stop(300, tol=1e-13))


@pytest.mark.parametrize("past", [0, 6])
@pytest.mark.parametrize("solver", [deq.Anderson(), deq.Broyden()], ids=["anderson", "broyden"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_token_changes_no_prediction_before_it_at_the_fixed_point(past: int, solver: Any, norm: Any) -> None:
    model = small(solver=solver, stop=deq.Stop(300, tol=1e-12), norm=norm)
    memory = model(some_tokens(length=past, seed=1)).memory if past else None
    tokens = some_tokens()
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 40
    with torch.no_grad():
        first, second = model(tokens, memory), model(changed, memory)
    assert first.solution.converged.all()
    torch.testing.assert_close(first.log_probs[:, :4], second.log_probs[:, :4], rtol=0, atol=1e-9)
    assert not torch.isclose(first.log_probs[:, 4], second.log_probs[:, 4]).any()


def test_memory_holds_the_last_positions() -> None:
    model = small(memory=6, **TIGHT)
    tokens = some_tokens(length=8)
    with torch.no_grad():
        first = model(tokens[:, :4])
        second = model(tokens[:, 4:], first.memory)
    assert len(first.memory) == 4
    assert len(second.memory) == 6
    assert torch.equal(second.memory.states[:, :2], first.memory.states[:, 2:])
    assert torch.equal(second.memory.states[:, 2:], second.solution.value)
    assert torch.equal(second.memory.injections[:, :2], first.memory.injections[:, 2:])


def test_no_memory_is_kept_where_none_is_asked_for() -> None:
    model = small(memory=0)
    assert len(model(some_tokens()).memory) == 0


def test_memory_carries_no_gradient() -> None:
    model = small().train()
    memory = model(some_tokens()).memory
    assert not memory.states.requires_grad
    assert not memory.injections.requires_grad


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_implicit_gradients_are_those_of_unrolling(norm: Any) -> None:
    tokens, targets = some_tokens(), some_tokens(seed=2)
    gradients = []
    for adjoint, solver in ((EXACT, deq.Anderson()), (deq.Unrolled(), deq.FixedPointIteration())):
        model = small(norm=norm, dropout=0.2, attention_dropout=0.2, adjoint=adjoint, solver=solver)
        model.equilibrium = replace(model.equilibrium, stop=deq.Stop(300, tol=1e-13))
        memory = Memory(torch.ones(2, 3, 16).double(), torch.full((2, 3, 48), 0.1).double())
        torch.manual_seed(3)  # equal dropout masks
        output = model.train()(tokens, memory, targets=targets)
        assert output.solution.converged.all()
        output.loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-7, atol=1e-9, msg=name)


def test_the_jacobian_penalty_sees_the_masks_of_the_solve() -> None:
    model = small(dropout=0.5, attention_dropout=0.5, **TIGHT).train()
    probe = torch.randn(2, 7, 16, dtype=torch.float64)
    torch.manual_seed(3)
    output = model(some_tokens(), targets=some_tokens(seed=2), probes=[probe])
    torch.manual_seed(3)
    with deq.solve_scope():
        f = model.map(model.encode(some_tokens()))
        solution = deq.fixed_point(f, torch.zeros(2, 7, 16).double(), on_failure="ignore", **TIGHT)
        expected = deq.nn.jacobian_frobenius(f, solution.value.detach(), probes=[probe])
    torch.testing.assert_close(output.jacobian, expected)
    assert output.jacobian.requires_grad


def test_unrolling_is_so_many_plain_evaluations() -> None:
    model = small(steps=4)
    tokens = some_tokens()
    with torch.no_grad():
        output = model(tokens, record=(2,))
        f, state = model.map(model.encode(tokens)), torch.zeros(2, 7, 16).double()
        states = [state := f(state) for _ in range(4)]
    torch.testing.assert_close(output.solution.value, states[3])
    torch.testing.assert_close(output.solution.trajectory[0], states[1])
    assert output.solution.nfe == 4
    residual = (states[3] - states[2]).flatten(1).norm(dim=1) / states[3].flatten(1).norm(dim=1)
    torch.testing.assert_close(output.solution.residual, residual)


def test_unrolling_returns_the_last_state_though_an_earlier_was_better() -> None:
    states = [torch.full((1, 2), value) for value in (1.0, 1.1, 5.0)]
    found = iter(states)
    solution = unrolled(lambda _: next(found), torch.zeros(1, 2), 3)
    assert torch.equal(solution.value, states[2])
    assert solution.residual > solution.trace[1]


@pytest.mark.parametrize("steps", [None, 5])
def test_the_memory_is_projected_once_per_solve(monkeypatch: pytest.MonkeyPatch, steps: int | None) -> None:
    model = small(**TIGHT)
    memory = model(some_tokens(length=6, seed=1)).memory
    contexts, lengths = [], []
    make = RelativeAttention.context
    monkeypatch.setattr(RelativeAttention, "context", lambda *args: contexts.append(make(*args)) or contexts[-1])
    model.cell.attention.qkv.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    with torch.no_grad():
        output = model(some_tokens(), memory, steps=steps)
    assert len(contexts) == 1
    assert contexts[0].keys.shape == (2, 2, 6, 8)
    assert lengths == [7] * output.solution.nfe


def test_a_sweep_over_steps_is_one_solve() -> None:
    model = small(solver=deq.FixedPointIteration(), stop=deq.Stop(10, tol=None))
    tokens, targets = some_tokens(), some_tokens(seed=2)
    with torch.no_grad():
        sweep = model(tokens, targets=targets, record=range(1, 11))
        for steps, state in enumerate(sweep.solution.trajectory, start=1):
            alone = model(tokens, targets=targets, steps=steps)
            torch.testing.assert_close(model.losses(state, targets), alone.losses)


def test_a_warm_start_saves_evaluations() -> None:
    model = small(**TIGHT)
    tokens = some_tokens()
    with torch.no_grad():
        cold = model(tokens)
        warm = model(tokens, start=cold.solution.value)
    assert warm.solution.nfe < cold.solution.nfe / 4
    torch.testing.assert_close(warm.log_probs, cold.log_probs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("where", ["dropout", "attention_dropout"])
def test_dropout_is_one_mask_a_solve(where: str) -> None:
    chances: dict[str, Any] = {where: 0.3}
    model = small(**chances).train()
    state = torch.randn(2, 7, 16, dtype=torch.float64)
    images = []
    for _ in range(2):
        with deq.solve_scope():
            f = model.map(model.encode(some_tokens()))
            images.append(f(state))
            assert torch.equal(f(state), images[-1])
    assert not torch.allclose(*images)


@pytest.mark.parametrize("kind", ["positions", "channels"])
def test_the_final_mask_is_shared_along_what_is_named(kind: Any) -> None:
    model = small(dropout=0.5, output_dropout=kind).train()
    dropped = model.output_dropout(torch.ones(4, 9, 16)) == 0
    along = 2 if kind == "positions" else 1
    assert (dropped.all(along) == dropped.any(along)).all()
    assert 0 < dropped.float().mean() < 1


def test_mean_and_losses_agree() -> None:
    output = small()(some_tokens(), targets=some_tokens(seed=2))
    assert output.log_probs is None
    torch.testing.assert_close(output.loss, output.losses.mean())
    assert output.losses.shape == (2, 7)


def test_bfloat16_autocast_keeps_its_distance_small() -> None:
    model = small().float()
    tokens, targets = some_tokens(), some_tokens(seed=2)
    with torch.no_grad():
        full = model(tokens, targets=targets).loss
        with torch.autocast("cpu", torch.bfloat16):
            half = model(tokens, targets=targets)
    assert half.losses.dtype == torch.float32
    assert half.loss.item() == pytest.approx(full.item(), rel=0.02)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(torch.zeros(3, dtype=torch.long)), ValueError, r"\(B, T\) with T at least 1"),
        (lambda m: m(torch.zeros(2, 0, dtype=torch.long)), ValueError, r"\(B, T\) with T at least 1"),
        (lambda m: m(torch.zeros(2, 3)), TypeError, "integers"),
        (lambda m: m(some_tokens(3), m(some_tokens(2)).memory), ValueError, "same rows and model"),
        (lambda m: m(some_tokens(), targets=some_tokens(length=3)), ValueError, "as the tokens are"),
        (lambda m: m(some_tokens(), steps=3, record=(4,)), ValueError, "from 1 to 3"),
    ],
)
def test_wrong_calls_are_refused(call: Any, error: type[Exception], message: str) -> None:
    model: DEQTransformer = small()
    with pytest.raises(error, match=message):
        call(model)
