"""What a training step takes by each gradient: the networks of the study, and the table."""

from dataclasses import replace

import pytest
from benchmarks.flow.gradient_costs import main, networks
from tests.profiles import SMOKE

import deq_core as deq
from deq_core.experiment import config
from deq_flow.studies.gradients import Gradient, GradientStudy


def test_a_networks_states_have_the_gradients_of_the_study() -> None:
    study = config.load(GradientStudy, SMOKE, "flow.gradients")
    one, three = deq.Phantom(steps=1), deq.Phantom(steps=3)
    mixed = replace(study, methods=("mixed",), gradient={"mixed": Gradient(last=three, corrected=one)})
    alone, both = networks(mixed).values()
    assert (alone.equilibrium.adjoint, alone.equilibrium.correction) == ((three,), ())
    assert (both.equilibrium.adjoint, both.equilibrium.correction) == ((one, three), study.model.correction)


def test_the_costs_are_beside_the_cheapest_step(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--params", str(SMOKE), "--repeats", "1"])
    rows = [[each.strip() for each in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    saved = {name: float(megabytes.removesuffix(" MB")) for name, megabytes, *_ in rows}
    last, corrected = ([each for name, each in saved.items() if name.endswith(end)] for end in ("only", "states"))
    assert all(one < other for one, other in zip(last, corrected, strict=True))
    assert last[0] < last[2], "an implicit gradient keeps less than three phantom steps"
    assert min(float(row[3]) for row in rows) == 1
