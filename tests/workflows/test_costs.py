"""What the stages of the profile paper take is counted from their networks, and stands on its page."""

from itertools import starmap
from pathlib import Path

import pytest
import torch
from benchmarks.core.pages import read_table
from tests.workflows.checkout import set_parameters
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config.layer import Adjoint, ImplicitConfig, LayerConfig, StopConfig
from deq_core.experiment.study.paths import Followed, Paths
from deq_core.experiment.study.problem import Problem
from deq_core.experiment.study.solves import Setting
from deq_flow.networks import build_network
from deq_flow.params import EquilibriumModel, UnrolledModel
from deq_flow.studies.delta.sweep import Extent
from deq_sequence.config import MINI
from deq_sequence.models.transformer import DEQTransformer
from deq_sequence.params import Model
from deq_vision.config import Equilibrium
from deq_vision.models.mdeq import MDEQ
from deq_vision.models.variants import VARIANTS
from workflows import costs
from workflows.costs import Cost
from workflows.engines import graph, parameters
from workflows.paper.measurements import PAIRS, followed, of_text
from workflows.paper.operations import (
    Counted,
    Seen,
    of_sequence,
    operations,
    seen_flow,
    seen_unrolled_flow,
    seen_vision,
)


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
    assert costs.shown(9e-4) == "< 0.001"
    recipe = costs.config.check(costs.Language, costs.PAPER, "sequence").train["wt103"]
    found = Counted(weights=4, around=0, f=1, back=2, product=1, prediction=0)
    every = costs.pretrained(found, recipe, solved=100.0)
    assert every == 32_000 * 2 * 3 + 268_000 * 100
    made = costs.cost("sequence_train", recipe, found.weights, every)
    assert (made.operations, made.gpus, made.kept) == (4 * every, 4, 3 * 4)


IMAGES = VARIANTS["cifar-tiny"]
PLAIN = LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=5), adjoint=deq.Phantom(1))


@torch.no_grad()
def test_a_prediction_has_what_the_network_computes() -> None:
    frames, images = torch.zeros(1, 3, 64, 72), torch.zeros(1, 3, 32, 32)
    equilibrium = EquilibriumModel(name="deq-flow-mini", layer=PLAIN)
    flow = build_network(equilibrium).eval()
    taken, _ = operations(lambda: flow(frames, frames))
    assert seen_flow(equilibrium, (64, 72)).solved(5) == taken
    unrolled = UnrolledModel(name="raft-mini", steps=3)
    raft = build_network(unrolled).eval()
    taken, _ = operations(lambda: raft(frames, frames, record=range(1, 7)))
    assert seen_unrolled_flow(unrolled, (64, 72)).solved(6) == taken
    mdeq = MDEQ(IMAGES.architecture, Equilibrium(**PLAIN.choices())).eval()
    taken, _ = operations(lambda: mdeq(images))
    assert seen_vision(IMAGES.architecture, (32, 32)).solved(5) == taken


def test_a_sample_that_is_followed_has_the_evaluations_of_the_study() -> None:
    calls = {"f": 0, "answer": 0}

    def counted(name: str, value: Tensor) -> Tensor:
        calls[name] += 1
        return value

    problem = Problem(
        names=["one", "other"],
        parts=("state",),
        f=lambda z: (counted("f", torch.cos(z)),),
        zero=(torch.zeros(2, 8),),
        answer=lambda z: counted("answer", z),
        distance=lambda one, other: (one - other).norm(dim=1),
        error=lambda found: found.norm(dim=1),
    )
    setting = Setting(solver=deq.Anderson(window=3), evaluations=7, tolerances=(1e-30, 1e-31))
    plain = deq.FixedPointIteration(damping=0.9)
    config = Paths(evaluations=6, solvers={"plain": plain}, settings={"slow": setting}, samples=2, arnoldi=4)
    Followed(config).add(problem)
    assert followed(config, Seen(before=0, f=1, answer=0)) == calls["f"]
    assert followed(config, Seen(before=0, f=0, answer=1)) == calls["answer"]


def test_the_first_pairs_of_the_first_videos_are_measured() -> None:
    spring = PAIRS["spring"]
    assert spring.within(Extent()) == spring.pairs
    assert spring.within(Extent(sequences=4, frames=20)) == 80
    assert PAIRS["kitti"].within(Extent(sequences=7, frames=20)) == 7, "single pairs"


def test_the_page_has_what_is_counted_now(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    language = costs.config.check(costs.Language, costs.PAPER, "sequence")
    trained = [costs.sequence_cost(language.model[name], language.train[name]) for name in language.methods]
    now = {"sequence_train": trained}
    for cost in starmap(Cost, of_text(language)):
        now.setdefault(cost.stage, []).append(cost)
    said = read_table(costs.PAGE.read_text(), costs.TABLE)
    for stage, jobs in now.items():
        assert said[f"`{stage}`"] == costs.row(stage, jobs, costs.TFLOPS)[1:]
    set_parameters(checkout, {}, name="paper")
    monkeypatch.chdir(checkout)
    asking = {
        rule.name: str(len(rule.jobs))
        for rule in graph.rules(parameters.load())
        if any(job.asks.gpu for job in rule.jobs.values())
    }
    del asking["delta_inr"]  # small fits of a picture
    assert {stage.strip("`"): row[0] for stage, row in said.items()} == asking
