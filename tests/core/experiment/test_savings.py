"""What the delta rule saves within a loss, and what fewer steps save within the same."""

import pytest

from deq_core.experiment.study.plotting import PALETTE
from deq_core.experiment.study.savings import (
    Way,
    best_variants,
    cheapest,
    decibels,
    error,
    savings_table,
    sweep_savings,
    work_shares,
)
from deq_core.experiment.study.tradeoff import tradeoff
from deq_core.experiment.tables import Row

EPE = error("epe")


def row(threshold: float, steps: int, epe: float, left: float, **more: str) -> Row:
    """Of a sweep whose dense solve of 10 steps takes 1000 MACs; whole pixels leave 100 more than elements."""
    work: Row = {"macs_dense": 100.0 * steps, "macs_sparse": left, "macs_pixels": left + 100}
    key = {"net": "a", "variant": "sent", "solver": "plain", "start": "cold", "split": "test"}
    return {**key, "threshold": threshold, "max_steps": steps, "epe": epe, **work, **more}


def both(threshold: float, steps: int, validation: float, test: float, left: float, **more: str) -> list[Row]:
    return [
        row(threshold, steps, epe, left, **{**more, "split": split})
        for split, epe in (("validation", validation), ("test", test))
    ]


def savings(*rows: list[Row]):
    table = [each for of_way in rows for each in of_way]
    return sweep_savings(work_shares(table, ("net", "split")), ("net",), EPE, (1, 5))


def test_the_cheapest_way_within_the_bound_is_chosen_by_means_over_seeds() -> None:
    ways = [
        Way("0.01", [{"epe": 1.0, "work": 60.0}, {"epe": 1.0, "work": 50.0}]),
        Way("0.1", [{"epe": 1.0, "work": 30.0}, {"epe": 1.08, "work": 10.0}]),  # 1.04: one seed alone is beyond 5 %
        Way("1", [{"epe": 2.0, "work": 5.0}, {"epe": 0.7, "work": 5.0}]),
    ]
    found = cheapest(ways, ways[0], EPE, 5)
    assert found is not None
    assert found.name == "0.1"
    assert cheapest(ways[1:], ways[0], EPE, 1) is None
    assert decibels("psnr").of([{"psnr": 30.0}], [{"psnr": 29.5}]) == 0.5


def test_a_threshold_is_chosen_on_validation_and_told_of_the_test() -> None:
    found = savings(
        both(0, 10, 1.0, 2.0, 600.0),
        both(0, 5, 1.005, 2.4, 350.0),
        both(0.1, 10, 1.008, 2.2, 200.0),
        both(0.2, 10, 1.2, 2.0, 100.0),  # the test alone would choose it
    )["a, sent, cold"]["1 %"]
    assert (found["way"], found["fewer_way"]) == ("sent, 0.1", "5 steps")
    assert (found["lost"], found["fewer_lost"]) == (pytest.approx(10), pytest.approx(20))
    assert found["validated"] == found["saved"] == 80
    assert (found["kept_way"], found["kept_lost"]) == ("10 steps", 0)  # what the test itself asks for


def test_what_threshold_0_skips_stands_apart_and_fewer_steps_are_granted_it() -> None:
    found = savings(both(0, 10, 1.0, 1.0, 600.0), both(0, 5, 1.0, 1.0, 350.0), both(0.1, 10, 1.0, 1.0, 200.0))[
        "a, sent, cold"
    ]["1 %"]
    assert (found["saved"], found["exact"], found["added"]) == (80, 40, 40)
    assert (found["fewer_saved"], found["beyond"]) == (65, 15)
    assert (found["saved_pixel"], found["beyond_pixel"]) == (70, 15)
    assert found["spared"] == pytest.approx(100 * (1 - 20 / 35))


def test_the_peer_is_the_best_solver_and_losses_are_against_the_best_long_solve() -> None:
    found = savings(
        both(0, 10, 2.0, 2.0, 600.0),
        both(0.1, 10, 2.0, 2.0, 100.0),
        both(0, 10, 1.0, 1.0, 600.0, solver="Anderson", variant="fast"),
        both(0, 5, 1.0, 1.0, 300.0, solver="Anderson", variant="fast"),
    )["a, sent, cold"]["1 %"]
    assert "way" not in found, "twice the error of the other solver"
    assert found["fewer_way"] == "5 steps, Anderson"


def test_a_variant_may_be_named_by_a_number_which_its_table_comes_back_with() -> None:
    named: Row = {**row(0.1, 10, 1.0, 200.0), "variant": 0.5}
    assert savings([row(0, 10, 1.0, 600.0)], [named])["a, 0.5, cold"]["1 %"]["way"] == "0.5, 0.1"


def test_the_best_variant_of_a_case_is_the_one_that_saved_most_where_it_was_chosen() -> None:
    shown = [both(0, 10, 1.0, 1.0, 600.0), both(0.1, 10, 1.0, 1.0, 200.0)]
    other = [
        row(0.1, 10, 1.0, left, variant="seen", split=split) for split, left in (("validation", 190.0), ("test", 300.0))
    ]
    warm = [{**each, "start": "stream"} for each in (*shown[0], *shown[1])]
    found = best_variants(savings(*shown, other, warm), ("stream", "cold"))
    assert list(found) == ["a, stream", "a, cold"]
    assert found["a, cold"]["1 %"]["way"] == "seen, 0.1"
    assert "| a, stream | 1 % | sent, 0.1 | 80.0 / 70.0 | 40.0 | 40.0 | 0.0 | 10 steps |" in savings_table(found)


def test_a_figure_draws_every_solver_and_variant_however_many_there_are() -> None:
    rows = [
        row(threshold, 10, 1.0, left, solver=f"solver {number}", variant=f"variant {number}")
        for number in range(len(PALETTE) + 1)
        for threshold, left in ((0, 600.0), (0.1, 200.0))
    ]
    shares = work_shares(rows, ("net", "split"))
    (axes,) = tradeoff(shares, down="net", across=("start",), quality=EPE, y="EPE lost").axes
    assert len(axes.get_legend_handles_labels()[1]) == len(rows)


def test_a_table_says_where_nothing_is_within_the_bound_and_where_there_was_no_validation() -> None:
    alone = savings([row(0, 10, 1.0, 600.0)], [row(0.1, 10, 1.0, 200.0)])
    assert "| a, sent, cold | 1 %, chosen on test | sent, 0.1 |" in savings_table(alone)
    table = savings_table({"a, cold": {"1 %": {"fewer_way": "10 steps", "fewer_saved": 40.0, "fewer_saved_std": 0.5}}})
    line = "| none |  |  |  |  | 10 steps | 40.0 ± 0.5 |  |  |  | 10 steps | 40.0 ± 0.5 |"
    assert f"| a, cold | 1 %, chosen on test {line}" in table
