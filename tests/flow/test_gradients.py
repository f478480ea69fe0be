"""The study of gradients and corrections: which states have which gradient, and what differences over seeds are."""

from dataclasses import replace
from typing import Any

import pytest
from tests.profiles import PROFILES, SMOKE

import deq_core as deq
from deq_core.experiment import config
from deq_flow.reports.gradients import differences
from deq_flow.studies.gradients import Gradient, GradientStudy, variant

REVERSIBLE = deq.Reversible(damping=0.5)


@pytest.fixture(scope="module")
def study() -> GradientStudy:
    return config.load(GradientStudy, SMOKE, "flow.gradients")


@pytest.mark.parametrize("name", PROFILES)
def test_the_gradients_differ_in_nothing_but_the_adjoint_and_the_implicit_one_is_the_last_states_alone(
    name: str,
) -> None:
    own = config.load(GradientStudy, PROFILES[name], "flow.gradients")
    found = {}
    for method in own.methods:
        *corrected, last = own.gradient[method].adjoints(own.model)
        assert len(corrected) == len(own.model.correction)
        assert own.gradient[method].adjoints(variant(own.model, corrected=False)) == (last,)
        found[method] = {type(last), *map(type, corrected)}
    assert found == {
        "implicit": {deq.Implicit, deq.Phantom},
        "phantom-1": {deq.Phantom},
        "phantom-3": {deq.Phantom},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda study: {"methods": ("exact",)}, "not in `gradient`: exact"),
        (lambda study: {"seeds": ()}, "one of each at least"),
        (lambda study: {"model": variant(study.model, corrected=False)}, "supervised besides the last, got none"),
        (lambda study: {"train": replace(study.train, processes=2)}, "expected one process"),
        (
            lambda study: {
                "gradient": {**study.gradient, "phantom-3": Gradient(last=REVERSIBLE, corrected=REVERSIBLE)}
            },
            "Reversible",
        ),
    ],
    ids=["an unknown gradient", "no seed", "no correction", "processes", "a solver that does not fit"],
)
def test_a_study_that_compares_nothing_is_refused_before_any_work(study: GradientStudy, change: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        replace(study, **change(study))


def test_differences_are_of_the_networks_of_one_seed_where_both_learned() -> None:
    ours = [{"epe": 3.0, "residual": 0.1}, {"epe": 2.0, "residual": 0.3}]
    theirs = [{"epe": 4.0, "residual": 0.2}, {"epe": 2.5, "residual": 0.2}]
    lost, fine, zero = [{"diverged": 1.0}, {"epe": 6.0, "residual": 1.0}], {"epe": 1.0, "residual": 0.1}, {"epe": 5.0}
    found = differences([*ours, *lost], [*theirs, fine, fine], zero)
    assert differences([fine, fine], lost, zero) == {}
    assert found["epe"] == pytest.approx(-0.75)
    assert found["epe_std"] == pytest.approx(0.125**0.5)
    assert (found["epe_agree"], found["residual_agree"]) == (1.0, 0.0)
    assert differences(ours, [ours[0], theirs[1]], zero)["epe_agree"] == 0.0, "no difference is not a smaller error"
