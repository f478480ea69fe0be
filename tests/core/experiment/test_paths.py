"""Path independence, measured on maps whose fixed points, rates and radii are known."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config.layer import Solver
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.files import write_json
from deq_core.experiment.study.measured import Measured, by_network
from deq_core.experiment.study.path_report import Unit, medians, path_page
from deq_core.experiment.study.paths import Followed, Paths
from deq_core.experiment.study.problem import Problem
from deq_core.experiment.study.report import Page, Results, folder_of
from deq_core.experiment.study.solves import Setting
from deq_core.experiment.tables import numbers, write_rows

PLAIN: dict[str, Solver] = {"plain": deq.FixedPointIteration()}
CONFIG = Paths(evaluations=6, solvers=PLAIN, tolerances=(1e-1, 1e-3), samples=4, arnoldi=4)
SAMPLES = 3


def problem(f, parts=("z",), samples: int = SAMPLES, width: int = 4) -> Problem:
    """Of states of equal parts; their sum is the answer, whose error is its distance from 0."""
    return Problem(
        names=[f"sample {number}" for number in range(samples)],
        parts=parts,
        f=f,
        zero=tuple(torch.zeros(samples, width, dtype=torch.float64) for _ in parts),
        answer=lambda *state: torch.stack(state).sum(0),
        distance=lambda one, other: (one - other).norm(dim=1),
        error=lambda answer: answer.norm(dim=1),
    )


def followed(config: Paths, *problems: Problem) -> Followed:
    found = Followed(config)
    for each in problems:
        found.add(each)
    return found


def test_of_a_linear_map_every_number_is_known() -> None:
    """f(z) = z / 2 + b from zero: the state after k evaluations is 2b (1 - 2^-k), and the residual 1 / (2^k - 1)."""
    b = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64).expand(SAMPLES, 4)
    found = followed(CONFIG, problem(lambda z: (z / 2 + b,)))
    for number, row in enumerate(found.samples):
        length = 2 * float(b[number].norm())
        assert row["radius"] == pytest.approx(0.5, abs=1e-6)
        assert row["plain.error"] == pytest.approx(length * (1 - 2**-6))
        assert row["plain.error_twice"] == pytest.approx(length * (1 - 2**-12))
        assert row["plain.change"] == pytest.approx(length * (2**-6 - 2**-12))
        assert (row["plain.state.0.1"], row["plain.state.0.001"]) == (4, 10)
    summary = found.summary()
    assert (summary["plain.state.0.1"], summary["plain.state.0.001"], summary["contracting"]) == (1, 0, 1)
    assert numbers(found.tables()["residuals"], "residual") == pytest.approx(
        [1 / (2**step - 1) for step in range(1, 13)]
    )
    apart = numbers(found.tables()["answers"], "other")
    assert apart[-1] == pytest.approx(apart[0] * 2**-11)


def test_a_constant_map_is_path_independent() -> None:
    fixed = torch.randn(SAMPLES, 4, dtype=torch.float64)
    summary = followed(CONFIG, problem(lambda z: (fixed + 0 * z,))).summary()
    assert (summary["radius"], summary["contracting"]) == (0, 1)
    assert summary["plain.change"] == summary["plain.random"] == summary["plain.other"] == 0
    assert summary["plain.state.0.001"] == 1


def test_an_integrator_keeps_its_start_and_hides_in_the_residual_of_the_whole() -> None:
    """x + 1 never comes to rest, and a part of large numbers beside it makes the whole state's residual small."""

    def f(large: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return 0 * large + 1e4, x + 1

    summary = followed(CONFIG, problem(f, parts=("large", "x"))).summary()
    assert summary["radius"] == pytest.approx(1, abs=1e-4)
    assert summary["contracting"] == 0
    assert (summary["plain.state.0.001"], summary["plain.every part.0.001"]) == (1, 0)
    assert summary["plain.change"] == pytest.approx(6 * 2)
    assert summary["plain.random"] > 1


def test_a_solver_is_judged_by_its_own_way() -> None:
    """Anderson's method solves a linear map of so few directions where plain iteration is still on its way."""
    turns = torch.diag(torch.tensor([0.9, 0.8, -0.9, 0.5], dtype=torch.float64))
    config = Paths(
        evaluations=6, solvers={**PLAIN, "Anderson": deq.Anderson(window=5, ridge=0.0)}, samples=4, arnoldi=4
    )
    summary = followed(config, problem(lambda z: (z @ turns + 1,))).summary()
    assert (summary["plain.state.0.001"], summary["Anderson.state.0.001"]) == (0, 1)
    assert summary["Anderson.random"] < 1e-6 < summary["plain.random"]


def test_a_setting_says_where_its_solves_end_and_what_they_give() -> None:
    """f(z) = z / 2 + b as above; in its own unit the residual after k evaluations is |b| / 2^(k - 1)."""
    b = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64).expand(SAMPLES, 4)
    settings = {
        "relative": Setting(solver=deq.FixedPointIteration(), evaluations=5, tolerances=(0.1, 0.01)),
        "absolute": Setting(solver=deq.FixedPointIteration(), evaluations=9, tolerances=(0.3,), relative=False),
    }
    halves = problem(lambda z: (z / 2 + b,))
    found = followed(replace(CONFIG, settings=settings, every=2), halves, halves)
    solved, unsolved = found.samples[:SAMPLES], found.samples[SAMPLES:]
    assert not [name for row in unsolved for name in row if name.startswith("solve.")]
    ended = {name: numbers(solved, f"solve.{name}.evaluations") for name in ("relative.0.1", "absolute.0.3")}
    assert ended == {"relative.0.1": [4, 4, 4], "absolute.0.3": [4, 5, 6]}
    summary = found.summary()
    assert (summary["samples"], summary["solve.samples"]) == (2 * SAMPLES, SAMPLES)
    assert (summary["solve.relative.0.1.converged"], summary["solve.relative.0.01.converged"]) == (1, 0)
    assert summary["solve.relative.0.01.evaluations"] == 5
    errors = [2 * float(row.norm()) * (1 - 2**-4) for row in b]
    assert summary["solve.relative.0.1.error"] == pytest.approx(sum(errors) / SAMPLES)
    assert summary["solve.absolute.0.3.ms"] > 0


def test_a_lone_sample_has_no_other_and_does_not_count_there() -> None:
    def f(z: Tensor) -> tuple[Tensor]:
        return (z / 2 + 1,)

    alone = followed(CONFIG, problem(f, samples=1))
    assert "plain.other" not in alone.summary()
    both = followed(CONFIG, problem(f), problem(f, samples=1))
    assert both.summary()["samples"] == SAMPLES + 1
    assert sum("plain.other" in row for row in both.samples) == SAMPLES


def test_an_answer_that_is_no_number_is_refused_by_name() -> None:
    def f(z: Tensor) -> tuple[Tensor]:
        return (torch.where(torch.arange(SAMPLES)[:, None] == 1, torch.nan, z / 2 + 1),)

    with pytest.raises(NonFiniteError, match="sample 1: the answer after 1 evaluations is not finite"):
        followed(CONFIG, problem(f))


def test_answers_are_recorded_with_their_doubles() -> None:
    assert CONFIG.recorded == (1, 2, 3, 4, 6, 8, 12)
    odd = Paths(evaluations=5, solvers=PLAIN, samples=1)
    assert odd.recorded == (1, 2, 3, 4, 5, 6, 8, 10)


@pytest.mark.parametrize(
    "change", [{"evaluations": 0}, {"samples": 0}, {"arnoldi": 1}, {"solvers": {}}, {"tolerances": (0.0,)}]
)
def test_settings_that_measure_nothing_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        Paths(**{"evaluations": 6, "solvers": PLAIN, "samples": 4, **change})


RATES = {Measured("a", 0): 0.5, Measured("a", 1): 0.25, Measured("b"): 1.0}


def told(folder: Path, config: Paths = CONFIG) -> Page:
    """The page of linear maps of these rates, an integrator among them."""
    for case, rate in RATES.items():
        found = followed(config, problem(lambda z, w, rate=rate: (rate * z + 1, w / 2 + z), parts=("z", "w")))
        out = folder / "paths" / folder_of(case)
        for name, rows in found.tables(set="lines").items():
            write_rows(out / f"{name}.csv", rows)
        write_json(out / "metrics.json", {"lines": found.summary()})
    return path_page(by_network(list(RATES)), Results(folder, "maps"), "paths", Unit(answer="m", error="length"))


def tables(page: Page) -> list[str]:
    """The tables of a page, without its text."""
    return [part for part in page.parts if part.startswith("|")]


def test_a_page_has_means_and_deviations_over_seeds_and_a_row_a_network(tmp_path: Path) -> None:
    page = told(tmp_path)
    answers, convergence = (table.splitlines() for table in tables(page))
    assert answers[0] == (
        "| network | samples | solver | N | length, at N/2 | at N | at 2N | N to 2N, m "
        "| zero and a random state, m | zero and another sample's state, m |"
    )
    assert answers[2].startswith("| a | lines (3) | plain | 6 | ")
    assert [line.split(" | ")[0] for line in answers[2:]] == ["| a", "| b"]
    assert "| a | lines (3) | 0.50 ± 0.00 | 100 ± 0 | plain | state | " in convergence[2]
    assert "| b | lines (3) | 1.00 | 0 | plain | every part | 0 | 0 |" in convergence[-1]
    assert convergence[0].endswith("| to 0.1 within N, % | to 0.001 within N, % |")
    for lines in (answers, convergence):
        assert len({line.count("|") for line in lines}) == 1
    assert page.metrics["a"]["lines"]["plain.change_std"] > 0
    # of the integrator z = k and w = 0, 1, 2.5, 4.25, ... after k evaluations, in four elements each
    assert page.metrics["b"]["lines"]["plain.error_half"] == pytest.approx(2 * (3 + 2.5))
    assert page.metrics["b"]["lines"]["plain.error"] == pytest.approx(2 * (6 + 8.0625))


def test_a_page_tells_what_solves_cost_that_end_as_in_use(tmp_path: Path) -> None:
    ended = Setting(solver=deq.FixedPointIteration(), evaluations=12, tolerances=(0.01, 0.1))
    _, _, table = tables(told(tmp_path, replace(CONFIG, settings={"plain": ended})))
    heads, _, *lines = [[each.strip() for each in line.strip("|").split("|")] for line in table.splitlines()]
    assert heads == [
        "network",
        "samples",
        "solver",
        "tolerance",
        "evaluations",
        "ms per sample",
        "converged, %",
        "length",
    ]
    assert [line[:4] for line in lines] == [
        [network, "lines (3)", "plain", within] for network in ("a", "b") for within in ("0.1", "0.01")
    ]
    assert [line[6] for line in lines] == ["100 ± 0", "100 ± 0", "100", "0"]  # an integrator's falls as 1 / k
    assert lines[3][4] == "12.0"


def test_a_distance_that_one_sample_alone_has_shows_in_its_mean_and_not_in_its_median() -> None:
    rows = [{"set": name, "plain.random": value} for name, value in (("a", 0.0), ("a", 0.1), ("a", 9.0), ("b", 5.0))]
    assert medians(rows, "a") == {"plain.random.median": 0.1}


def test_a_figure_has_a_curve_of_each_part_and_distance(tmp_path: Path) -> None:
    residuals, distances, *_ = told(tmp_path).figures["paths"].axes
    assert [line.get_label() for line in residuals.get_lines()] == ["z, plain", "w, plain", "state, plain"]
    assert len(distances.get_lines()) == 3
