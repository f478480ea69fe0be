"""What a training step costs by each gradient, of a network of a few weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.config.layer import ImplicitConfig, StopConfig
from deq_core.experiment.study.report import Page, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.study.training_costs import Costs, summary, training_costs
from deq_core.experiment.study.training_costs_report import costs_page, costs_table, figure
from deq_core.experiment.tables import Row, read_metrics, write_rows

STEPS = (2, 4, 10)
CONFIG = Costs(
    gradients={
        "implicit": ImplicitConfig(solver=deq.Anderson(), stop=StopConfig(max_steps=2)),
        "phantom-1": deq.Phantom(steps=1),
        "unrolled": deq.Unrolled(),
    },
    steps=STEPS,
    solver=deq.FixedPointIteration(),
    repeats=3,
    batch_size=5,
)


@dataclass(frozen=True)
class Equilibrium:
    solver: Any = None
    stop: Any = None
    adjoint: Any = None
    eval_stop: Any = None
    on_failure: Any = "warn"


class Network(nn.Module):
    """z = tanh(Wz + b); counts evaluations outside of backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.equilibrium = Equilibrium()
        self.evaluations = 0

    def loss(self) -> Tensor:
        choice = self.equilibrium
        start = torch.zeros(CONFIG.batch_size, 3)
        return deq.fixed_point(
            self.f, start, solver=choice.solver, stop=choice.stop, adjoint=choice.adjoint, on_failure="ignore"
        ).value.sum()

    def f(self, z: Tensor) -> Tensor:
        self.evaluations += 1
        return torch.tanh(self.layer(z))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    torch.manual_seed(0)
    network = Network()
    found = training_costs(network, network.loss, CONFIG)
    assert network.equilibrium == Equilibrium(), "the network is as it was"
    more = {"implicit": 1, "phantom-1": 1, "unrolled": 0}  # evaluations of a forward pass
    passes = 2 + CONFIG.repeats
    backward = len(STEPS) * (passes - 1)  # the implicit gradient's own evaluation
    forward = sum(passes * (steps + extra) for extra in more.values() for steps in STEPS)
    assert network.evaluations == forward + backward, "a solve takes exactly the evaluations that it is asked for"
    return found


def test_only_unrolling_keeps_more_the_more_evaluations_there_are(rows: list[Row]) -> None:
    found = summary(rows)
    assert list(found) == list(CONFIG.gradients)
    kept = {gradient: [of[str(steps)]["bytes"] for steps in STEPS] for gradient, of in found.items()}
    for gradient in ("implicit", "phantom-1"):
        assert len(set(kept[gradient])) == 1, gradient
    two, four, ten = kept["unrolled"]
    assert ten - four == 3 * (four - two) > 0, "an evaluation keeps as much as any other"
    assert all(value["seconds"] > 0 for of in found.values() for value in of.values())


def test_the_page_has_a_line_a_gradient_in_both_panels(rows: list[Row], tmp_path: Path) -> None:
    write_rows(tmp_path / "training_costs" / "steps.csv", rows)
    params = tmp_path / "params.yaml"
    params.write_text("flow: {costs: {batch_size: 5, repeats: 3}}\n")
    page: Page = costs_page(Section(params, "flow"), Results(tmp_path, "flow"))
    page.write(tmp_path / "page")
    published = read_metrics(tmp_path / "page" / "metrics.json")
    assert costs_table(published) == page.parts[1], "in a file evaluations are in the order of their digits"
    for axes in figure(published).axes:
        for line in axes.get_lines():
            assert np.asarray(line.get_xdata()).tolist() == list(STEPS)
        assert [line.get_label() for line in axes.get_lines()] == list(CONFIG.gradients)
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    values = page.metrics["unrolled"]["10"]
    assert f" {values['bytes'] / 1e6:.2f} |" in page.parts[1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": ()}, "gradients, steps"),
        ({"steps": (0,)}, "from 1 on"),
        ({"gradients": {"reversible": deq.Reversible()}}, "Reversible"),
    ],
)
def test_settings_that_say_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(CONFIG, **wrong)
