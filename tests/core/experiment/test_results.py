"""Tables survive the disk bit by bit, and statistics are those of the textbook."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deq_core.experiment.tables import (
    cell,
    markdown,
    numbers,
    over_seeds,
    read_rows,
    statistic,
    write_rows,
)

values = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text("abc ,\"'\n-é", min_size=1),
)


@given(st.lists(st.dictionaries(st.sampled_from(["step", "loss", "name"]), values, min_size=1), min_size=1))
def test_rows_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    write_rows(path, rows)
    found = read_rows(path)
    assert found == rows
    assert [{key: type(row[key]) for key in row} for row in found] == [
        {key: type(row[key]) for key in row} for row in rows
    ]


def test_a_missing_value_is_an_empty_field(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_rows(path, [{"step": 1, "loss": 0.1}, {"step": 2, "epe": 1e-17, "loss": None}, {"loss": math.nan}])
    assert path.read_text() == "step,loss,epe\n1,0.1,\n2,,1e-17\n,nan,\n"
    assert read_rows(path)[:2] == [{"step": 1, "loss": 0.1}, {"step": 2, "epe": 1e-17}]
    assert math.isnan(float(read_rows(path)[2]["loss"] or 0))


def test_a_name_that_is_no_utf_8_is_spelt_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "table.csv", [{"name": os.fsdecode(b"caf\xe9")}])
    assert read_rows(tmp_path / "table.csv") == [{"name": "caf\\udce9"}]


def test_a_line_with_another_number_of_fields_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("step,loss\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"rows\.csv:3: expected 2 fields \(step, loss\), got 1"):
        read_rows(path)


def test_a_column_of_numbers_has_one_in_every_row() -> None:
    assert numbers([{"epe": 1}, {"epe": 0.5}], "epe") == [1.0, 0.5]
    for rows in ([{"epe": 1.0}, {}], [{"epe": 1.0}, {"epe": "x"}]):
        with pytest.raises(ValueError, match="epe: expected a number in every row, got"):
            numbers(rows, "epe")


def test_a_mean_is_of_something() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        statistic([])


def test_a_diverged_seed_shows_in_the_mean() -> None:
    found = statistic([1.0, math.inf])
    assert found.mean == math.inf
    assert math.isnan(found.std)


def test_values_over_seeds_have_a_mean_and_where_there_are_several_a_deviation() -> None:
    found = over_seeds([{"epe": 1.0, "px1": 0.5}, {"epe": 2.0, "px1": 0.5}])
    assert found == {"epe": 1.5, "epe_std": pytest.approx(0.5**0.5), "px1": 0.5, "px1_std": 0.0}
    assert over_seeds([{"epe": 1.0}]) == {"epe": 1.0}
    for runs in ([{}, {"epe": 1.0}], [{"epe": 1.0}, {}]):
        with pytest.raises(ValueError, match="epe: expected a number in every row, got None"):
            over_seeds(runs)
    assert cell(found, "epe", "{:.2f}") == "1.50 ± 0.71"
    assert cell({"epe": 1.0}, "epe", "{:.1f}") == "1.0"


def test_a_name_with_a_bar_or_a_line_break_stays_in_its_cell() -> None:
    table = markdown(["class", "iou"], [["road|rail\nside", "0.5"]], names=1).splitlines()
    assert table == ["| class | iou |", "| --- | ---: |", r"| road\|rail side | 0.5 |"]
