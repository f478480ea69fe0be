"""The tables in the documentation are what the code does today."""

import math

import pytest
from benchmarks.core import choosing, evaluations, gradients, memory
from benchmarks.core.pages import markdown, read_table, with_table

import deq_core as deq
from deq_core.experiment.study.plotting import save


def counts(cells):
    return [math.inf if count == choosing.NEVER else int(count) for cell in cells for count in cell.split(" / ")]


def test_no_solver_takes_more_steps_than_its_page_says():
    page = choosing.PAGE.read_text()
    said = read_table(page, "evaluations")
    now = read_table(with_table(page, "evaluations", choosing.table(choosing.measure())), "evaluations")
    assert list(said) == ["spectral radius", *choosing.SOLVERS]
    radii = [[float(radius) for radius in table.pop("spectral radius")] for table in (said, now)]
    assert radii[0] == pytest.approx(radii[1], abs=0.011)
    for solver, cells in said.items():
        for written, found in zip(counts(cells), counts(now[solver]), strict=True):
            # One step is what another processor's rounding may move; fewer mean that the page is behind.
            assert written == found or abs(found - written) <= 1, (
                f"{solver}: the page says {written}, now {found}; "
                "if that is meant, run `python -m benchmarks.core.choosing --out docs/figures`"
            )


def test_a_table_is_read_as_it_was_written():
    page = "before\n<!-- table x -->\nold\n<!-- end x -->\nafter\n"
    page = with_table(page, "x", markdown(["", "a", "b"], [["one", "1", "2"], ["two", "3", "-"]]))
    assert page.startswith("before\n")
    assert page.endswith("<!-- end x -->\nafter\n")
    assert read_table(page, "x") == {"one": ["1", "2"], "two": ["3", "-"]}


@pytest.mark.parametrize("page", ["", "<!-- end x -->\n<!-- table x -->\n", 2 * "<!-- table x -->\n<!-- end x -->\n"])
def test_markers_that_are_missing_or_doubled_are_an_error(page):
    with pytest.raises(ValueError, match="<!-- table x -->"):
        with_table(page, "x", "")


def test_gradients_are_as_exact_and_as_cheap_as_their_page_says():
    page = gradients.PAGE.read_text()
    said = read_table(page, "gradients")
    now = read_table(with_table(page, "gradients", gradients.table()), "gradients")
    assert list(said) == list(gradients.WAYS)
    for way, cells in said.items():
        written, found = ([float(cell) for cell in row] for row in (cells, now[way]))
        assert found[:2] == pytest.approx(written[:2], abs=0.11), way
        assert found[2:] == pytest.approx(written[2:], abs=1), way


def test_both_pages_say_the_same_of_this_librarys_solvers():
    """So that one of them need be measured."""
    beside = read_table(evaluations.PAGE.read_text(), "evaluations beside torchdeq")
    chosen = read_table(choosing.PAGE.read_text(), "evaluations")
    for label in ("plain", "damped by 0.5", "Anderson", "Broyden"):
        assert beside[label] == chosen[label], f"{label}: run `python -m benchmarks.core.evaluations`"


def test_memory_held_for_the_backward_pass_grows_under_unrolling_alone():
    at = gradients.problem()

    def held(adjoint, solver, length):
        return gradients.cost(at, gradients.Way(adjoint, solver, deq.Stop(length, None))).states

    plain = deq.FixedPointIteration()
    for adjoint, solver in ((deq.Implicit(), plain), (deq.Phantom(5), plain), (deq.Reversible(damping=0.9), None)):
        assert held(adjoint, solver, 60) == pytest.approx(held(adjoint, solver, 10), abs=0.01), adjoint
    assert held(deq.Unrolled(), plain, 60) > 4 * held(deq.Unrolled(), plain, 10)


def test_the_figure_of_memory_is_that_of_its_table(tmp_path):
    steps = read_table(memory.PAGE.read_text(), "memory of a step")
    assert list(steps) == list(memory.ADJOINTS)
    save(memory.draw(steps), tmp_path / "memory.svg")
    assert (tmp_path / "memory.svg").read_bytes() == memory.FIGURE.read_bytes(), (
        "the figure is behind its table: run `python -m benchmarks.core.memory --write`"
    )
