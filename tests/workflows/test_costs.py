"""What the trainings of the profile paper take is counted from their networks, and stands on its page."""

import pytest
import torch
from benchmarks.core.pages import read_table
from tests.profiles import ROOT

import deq_core as deq
from deq_core.experiment.config.layer import Adjoint, ImplicitConfig, LayerConfig, StopConfig
from deq_sequence.config import MINI
from deq_sequence.models.transformer import DEQTransformer
from deq_sequence.params import Model
from workflows import commands, costs
from workflows.costs import Cost
from workflows.operations import Counted, of_sequence, operations


def test_the_operations_of_f_are_those_of_its_products() -> None:
    """Each is one forwards and two backwards, of which one is by the state, and is a multiplication and an addition."""
    model, rows, length = Model(name="mini", memory=6, steps=1), 3, 8
    found = of_sequence(model, rows, length)
    layers = 4 * MINI.attention * MINI.width + 2 * MINI.inner * MINI.width
    attended = 3 * (model.memory + length) * MINI.attention
    assert found.f == 2 * rows * length * (layers + attended)
    assert found.back == 2 * found.f
    assert found.f < found.product < found.back, "both factors of a score are made of the state"


FORWARD = StopConfig(max_steps=5)
BACKWARD = ImplicitConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=4))


@pytest.mark.parametrize("adjoint", [deq.Unrolled(), deq.Phantom(3), BACKWARD], ids=lambda each: each.kind)
def test_an_update_has_all_evaluations_of_its_solves(adjoint: Adjoint) -> None:
    """As an update of the network itself has, on numbers."""
    layer = LayerConfig(solver=deq.FixedPointIteration(), stop=FORWARD, adjoint=adjoint)
    model, tokens = Model(name="mini", memory=0, layer=layer), torch.zeros(2, 7, dtype=torch.long)
    network = DEQTransformer(model.architecture(30), model.equilibrium())

    def update() -> None:
        network(tokens).solution.value.sum().backward()

    taken, _ = operations(update)
    softmax = 2 * tokens.numel() * 30 * MINI.width
    assert of_sequence(model, *tokens.shape).solved(layer) == taken - softmax


@pytest.mark.parametrize(
    ("adjoint", "gradient"), [(deq.Unrolled(), 0), (deq.Phantom(3), 3 * 30), (BACKWARD, 10 + 4 * 5 + 30)]
)
def test_every_state_that_is_supervised_is_predicted_from_and_has_a_gradient(adjoint: Adjoint, gradient: int) -> None:
    found = Counted(weights=1, around=1000, f=10, back=20, product=5, prediction=100)
    layer = LayerConfig(solver=deq.FixedPointIteration(), stop=FORWARD, adjoint=adjoint)
    assert found.solved(layer, 3) - found.solved(layer, 1) == 2 * (100 + gradient)


def test_a_training_is_its_updates_over_all_batches() -> None:
    shown = costs.row("a", [Cost("a", 7.2e18, gpus=8, weights=10**9, kept=3 * 10**9)] * 2, tflops=100.0)
    assert shown == ["`a`", "2", "8", "14", "40", "2.5", "8", "12"]
    recipe = costs.config.check(costs.Language, costs.PAPER, "sequence").train["wt103"]
    found = Counted(weights=4, around=0, f=1, back=2, product=1, prediction=0)
    every = costs.pretrained(found, recipe, solved=100.0)
    assert every == 32_000 * 2 * 3 + 268_000 * 100
    made = costs.cost("sequence_train", recipe, found.weights, every)
    assert (made.operations, made.gpus, made.kept) == (4 * every, 4, 3 * 4)


def test_the_page_has_what_is_counted_now() -> None:
    language = costs.config.check(costs.Language, costs.PAPER, "sequence")
    now = [costs.sequence_cost(language.model[name], language.train[name]) for name in language.methods]
    said = read_table(costs.PAGE.read_text(), costs.TABLE)
    stages = {name: str(stage.get("outs")) for name, stage in commands.definitions(ROOT / "dvc.yaml").items()}
    trained = {name for name, outs in stages.items() if "/history.csv" in outs and not name.startswith("delta_")}
    assert {stage.strip("`") for stage in said} == trained, "all but the small fits of a sine and a picture"
    assert said["`sequence_train`"] == costs.row("sequence_train", now, costs.TFLOPS)[1:]
