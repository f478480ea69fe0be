"""What the delta rule saves within a loss, and what fewer dense steps save within the same."""

import pytest

from deq_core.experiment.tables import Row
from deq_flow.reports.delta_sweep import savings, with_work
from deq_flow.reports.savings import at_least, at_most, cheapest, savings_table

KEY = {"network": "net", "set": "video", "variant": "km", "solver": "plain", "start": "cold"}


def dense(steps: int, epe: float) -> Row:
    work = float(100 * steps)
    return {**KEY, "max_steps": steps, "epe": epe, "macs_dense": work, "macs_sparse": work, "macs_hoisted": 0.9 * work}


def sparse(threshold: float, epe: float, left: float, **more: str) -> Row:
    work: Row = {"macs_dense": 1000.0, "macs_sparse": left, "macs_hoisted": 900.0}
    return {**KEY, "threshold": threshold, "max_steps": 10, "epe": epe, **work, **more}


def test_the_cheapest_way_within_the_bound_is_chosen_by_means_over_seeds() -> None:
    groups: dict[str, list[Row]] = {
        "0.01": [{"epe": 1.0, "work": 60.0}, {"epe": 1.0, "work": 50.0}],
        "0.1": [{"epe": 1.0, "work": 30.0}, {"epe": 1.08, "work": 10.0}],  # 1.04: one seed alone is beyond 5 %
        "1": [{"epe": 2.0, "work": 5.0}, {"epe": 0.5, "work": 5.0}],
    }
    found = cheapest(groups, quality="epe", work="work", accepted=at_most(1.0, 0.05))
    assert found is not None
    assert (found.way, found.work.mean, found.work.n) == ("0.1", 80, 2)
    assert cheapest(groups, quality="epe", work="work", accepted=at_most(0.5, 0.05)) is None
    assert at_least(30.0, 0.5)(29.5)
    assert not at_least(30.0, 0.5)(29.4)


def test_savings_compare_the_rule_with_fewer_steps_of_its_own_solver() -> None:
    other = {"solver": "anderson", "variant": "anderson"}
    rows = [
        dense(10, 1.0),
        dense(5, 1.03),
        dense(2, 2.0),
        {**dense(2, 1.0), **other},
        sparse(0.0, 1.0, 800.0),
        sparse(0.1, 1.02, 300.0),
        sparse(0.2, 1.3, 100.0),
    ]
    found = savings(with_work(rows))
    assert set(found) == {"net, video, km, cold"}
    bounds = found["net, video, km, cold"]
    assert bounds["1 %"] == pytest.approx({"saved": 20.0, "way": "0", "fewer_saved": 10.0, "fewer_way": "10"})
    assert bounds["5 %"] == pytest.approx({"saved": 70.0, "way": "0.1", "fewer_saved": 55.0, "fewer_way": "5"})


def test_kept_memories_are_compared_with_a_reused_dense_solve() -> None:
    rows = [{**dense(10, 1.0), "start": "reuse"}, sparse(0.1, 1.0, 400.0, start="stream")]
    found = savings(with_work(rows + rows))
    assert found["net, video, km, stream"]["1 %"]["saved"] == pytest.approx(60)
    assert found["net, video, km, stream"]["1 %"]["saved_std"] == 0


def test_a_subject_beyond_the_bound_is_said_to_be() -> None:
    found = savings(with_work([dense(10, 1.0), sparse(0.2, 1.3, 100.0)]))
    assert "| net, video, km, cold | 5 % | none within |  | 10.0 | 10 steps |" in savings_table(found)


def test_work_is_a_share_of_the_longest_dense_solve() -> None:
    whole: Row = {"network": "a", "set": "a", "macs_dense": 200.0, "macs_sparse": 200.0, "macs_hoisted": 150.0}
    part: Row = {**whole, "macs_sparse": 50.0, "release_saved": 0.8}
    first, second = with_work([whole, part])
    assert (first["work"], first["hoisted"]) == (100, 75)
    assert second["work"] == 25
    assert second["release"] == pytest.approx(20)
    assert "release" not in first
