"""The network, its solves and its gradients agree with the released code, number for number."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.sequence.parity import (
    NORMS,
    normal,
    recorded,
    recorded_arrays,
    recorded_memory,
    released_model,
    segment,
)
from torch import Tensor

import deq_core as deq
from deq_sequence.config import RELEASED_ANDERSON
from deq_sequence.models.compat.convert import renamed
from deq_sequence.models.positions import sinusoids
from deq_sequence.models.transformer import DEQTransformer

SOLVERS: dict[str, deq.Solver] = {
    "anderson": RELEASED_ANDERSON,
    "broyden": deq.Broyden(),
    "picard": deq.FixedPointIteration(),
}
CANDIDATES = {"anderson": range(2, 30), "broyden": range(1, 31), "picard": range(30, 31)}
"""Of the states at which the cell is evaluated, counted from 0, those that the release may return."""

pytestmark = pytest.mark.parametrize("norm", NORMS)


@pytest.fixture(autouse=True)
def scores_rounded_as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release rounds attention scores to float32 where it masks them, whatever the precision of the network."""
    masked_fill = Tensor.masked_fill
    monkeypatch.setattr(Tensor, "masked_fill", lambda x, mask, value: masked_fill(x.float(), mask, value).to(x.dtype))


def golden(norm: str) -> dict[str, Any]:
    return recorded()[f"{norm}_lnorm.float64"]


def released_solve(
    f: Callable[[Tensor], Tensor], start: Tensor, solver: str, tol: float = 0.0
) -> tuple[Tensor, list[float]]:
    """What the release's solver returns after 30 evaluations, and its relative residuals, of the whole batch.

    It returns a state, not its image: the one of lowest residual (plain iteration: the last), or the first within tol.
    """
    states, residuals = [], []

    def watched(state: Tensor) -> Tensor:
        image = f(state)
        states.append(state)
        smallest = 1e-5 if solver == "anderson" else 1e-9
        residuals.append(float((image - state).norm() / (image.norm() + smallest)))
        return image

    with torch.no_grad():
        deq.fixed_point(watched, start, solver=SOLVERS[solver], stop=deq.Stop(31, tol=None))
    within = (step for step in CANDIDATES[solver] if residuals[step] < tol)
    best = next(within, min(CANDIDATES[solver], key=residuals.__getitem__))
    return states[best], residuals


@pytest.mark.parametrize("past", [0, 20])
def test_one_evaluation(norm: Any, past: int) -> None:
    model = released_model(norm)
    state = normal("seq.z", (2, 64, 20)).double().mT
    injections = normal(f"seq.us{past}", (2, 192, 20 + past), 0.5).double().mT
    memory = normal("seq.z0", (2, 64, past)).double().mT
    positions = sinusoids(past + 20, 64, like=state)
    with torch.no_grad():
        context = model.cell.context(injections[:, past:], memory, injections[:, :past], positions)
        found, attended = model.cell(state, context), model.cell.attend(state, context)
    expected = torch.from_numpy(recorded_arrays(norm)[f"f_mem{past}"])
    torch.testing.assert_close(found.mT, expected, rtol=0, atol=1e-12)
    head = torch.tensor(golden(norm)[f"attn_mem{past}"]["head"], dtype=torch.float64)
    torch.testing.assert_close(attended.mT.flatten()[:8], head, rtol=0, atol=1e-12)


def test_embedding(norm: Any) -> None:
    embedded = released_model(norm).embedding(segment(0)[0]).flatten()
    expected = golden(norm)["word_emb"]
    assert embedded[:8].tolist() == pytest.approx(expected["head"], abs=1e-13)
    assert embedded[-8:].tolist() == pytest.approx(expected["tail"], abs=1e-13)
    assert embedded.std(correction=0).item() == pytest.approx(expected["std"], rel=1e-12)


def test_unrolled_layers(norm: Any) -> None:
    model = released_model(norm)
    tokens, targets = segment(0)
    with torch.no_grad():
        loss = model(tokens, targets=targets, steps=12).loss
    assert loss.item() == pytest.approx(golden(norm)["eval_stacked12_loss"], rel=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_three_segments_with_memory(norm: Any, solver: str) -> None:
    model = released_model(norm)
    memory = None
    for k, expected in enumerate(golden(norm)[f"eval_{solver}30"]):
        tokens, targets = segment(k)
        encoded = model.encode(tokens, memory)
        value, residuals = released_solve(model.map(encoded), model.start(encoded), solver)
        trace = expected["solver"]["rel_trace"]
        # Broyden's steps amplify rounding from one to the next.
        tolerance = 1e-3 if solver == "broyden" else 1e-8
        assert residuals[31 - len(trace) - (solver != "broyden") :][: len(trace)] == pytest.approx(trace, rel=tolerance)
        with torch.no_grad():
            loss = model.losses(value, targets).mean()
        assert loss.item() == pytest.approx(expected["loss_mean"], rel=1e-9)
        memory = model.remember(encoded, value)
        assert memory.states.transpose(0, 1).flatten()[:8].tolist() == pytest.approx(
            expected["mems_z"]["head"], abs=1e-7
        )
        assert memory.injections.transpose(0, 1).flatten()[:8].tolist() == pytest.approx(
            expected["mems_u"]["head"], abs=1e-13
        )


def test_losses_are_those_of_their_tokens(norm: Any) -> None:
    # The release returns losses in the order of the clusters; these were put back.
    model = released_model(norm, solver=deq.FixedPointIteration(), stop=deq.Stop(30, tol=None))
    tokens, targets = segment(0)
    with torch.no_grad():
        losses = model(tokens, targets=targets).losses
    assert losses.T.flatten().tolist() == pytest.approx(golden(norm)["picard30_nll_token_order"], rel=1e-9)


def test_equilibria_of_three_segments(norm: Any) -> None:
    model = released_model(norm, solver=deq.Broyden(), stop=deq.Stop(200, tol=1e-11))
    memory = None
    for k, expected in enumerate(recorded()["converged"][f"{norm}_lnorm"]["eval"]["segments"]):
        tokens, targets = segment(k)
        with torch.no_grad():
            output = model(tokens, memory, targets=targets)
        memory = output.memory
        assert output.loss.item() == pytest.approx(expected["loss"], rel=1e-9)
        states = memory.states.transpose(0, 1).flatten()
        assert states[:8].tolist() == pytest.approx(expected["mems_z"]["head"], abs=1e-7)
        assert states[-8:].tolist() == pytest.approx(expected["mems_z"]["tail"], abs=1e-7)


def assert_gradients_agree(model: DEQTransformer, expected: dict[str, Any], tolerance: float) -> None:
    """Norm of each parameter's gradient, and its product with normal numbers seeded by the parameter's released name.

    That product is of the size of the gradient's norm, which its tolerance is relative to.
    """
    released = {renamed_key(name): name for name in expected}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        theirs = released.pop(name)
        values = expected[theirs]
        probe = normal(f"probe.{theirs}", recorded()["keys"][theirs]).double().reshape(parameter.shape)
        assert parameter.grad.norm().item() == pytest.approx(values["norm"], rel=tolerance), name
        product = (parameter.grad * probe).sum().item()
        assert product == pytest.approx(values["dot"], abs=3 * tolerance * values["norm"]), name
    assert not released, "recorded parameters that our network lacks"


def renamed_key(name: str) -> str:
    """A released name as one of ours."""
    (ours,) = renamed({name: torch.zeros(())})
    return ours


# Two parameters in the release, each with its own gradient: its projections are tied in storage only.
UNTIED = (False, False, False)


def test_gradients_of_two_unrolled_layers(norm: Any) -> None:
    model = released_model(norm, tied_projections=UNTIED).train()
    tokens, targets = segment(0)
    loss = model(tokens, recorded_memory(), targets=targets, steps=2).loss
    loss.backward()
    expected = golden(norm)["train_stacked2"]
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-12)
    assert_gradients_agree(model, expected["grads"], 1e-9)


@pytest.mark.parametrize(
    ("forward", "penalty", "name"),
    [("anderson", 0.0, "train_ift_anderson30_broyden30"), ("broyden", 1.0, "train_ift_jac_broyden30_broyden30")],
)
def test_released_implicit_gradients(norm: Any, forward: str, penalty: float, name: str) -> None:
    """The release's training step, its solvers and their choices included, with the cell of ours."""
    model = released_model(norm, tied_projections=UNTIED).train()
    tokens, targets = segment(0)
    encoded = model.encode(tokens, recorded_memory())
    f = model.map(encoded)
    state, _ = released_solve(f, model.start(encoded), forward)
    image = f(state.requires_grad_())
    loss = model.losses(image, targets).mean()
    jacobian = deq.nn.jacobian_frobenius(f, state.detach(), probes=[normal("seq.jac_probe.0", (2, 64, 20)).double().mT])
    expected = golden(norm)[name]
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-9)

    (gradient,) = torch.autograd.grad(loss, image, retain_graph=True)

    def equation(u: Tensor) -> Tensor:
        return torch.autograd.grad(image, state, u, retain_graph=True)[0] + gradient

    solved, _ = released_solve(equation, torch.zeros_like(gradient), "broyden", tol=1e-3)
    (loss + penalty * jacobian.mean()).backward(retain_graph=True)
    image.backward(solved - gradient)
    if penalty:
        assert jacobian.mean().item() == pytest.approx(expected["jac_loss"], rel=1e-9)
    # The rounded scores make Jᵀu a noisy function, and 30 Broyden steps make 5e-3 of noise of 1e-12; the release's own
    # gradients in float32 differ from those in float64 by as much.
    assert_gradients_agree(model, expected["grads"], 5e-3)


def test_exact_implicit_gradients(norm: Any) -> None:
    adjoint = deq.Implicit(solver=deq.Broyden(), stop=deq.Stop(200, tol=1e-11))
    choices = {"solver": deq.Broyden(), "stop": deq.Stop(200, tol=1e-11), "adjoint": adjoint}
    model = released_model(norm, tied_projections=UNTIED, **choices)
    with torch.no_grad():
        memory = model(segment(0)[0]).memory
    tokens, targets = segment(1)
    loss = model.train()(tokens, memory, targets=targets).loss
    loss.backward()
    expected = recorded()["converged"][f"{norm}_lnorm"]["train"]
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-9)
    assert_gradients_agree(model, expected["grads"], 1e-7)
