"""Tables of results: rows of named values in CSV files, and statistics over seeds."""

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deq_core.experiment.errors import ResultsError as ResultsError
from deq_core.experiment.files import write_text
from deq_core.experiment.reading import decoding, read_bytes, read_text

AGAIN = "make it again"
Value = str | int | float | bool | None
Row = dict[str, Value]

_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?inf|nan")


@dataclass(frozen=True)
class Statistic:
    """Mean and standard deviation of one quantity over repetitions."""

    mean: float
    std: float
    """Sample standard deviation (n - 1 in the denominator); NaN for a single value, or if one is infinite or NaN."""
    n: int


def write_rows(path: Path, rows: Sequence[Mapping[str, Value]]) -> None:
    """Writes `rows` as CSV, atomically; columns are all keys in order of first appearance.

    A missing key or None is an empty field. Floats are written so that reading returns the same bits.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_written(row.get(column)) for column in columns])
    write_text(path, text.getvalue())


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file. Empty fields are left out of their rows; numbers are parsed.

    Raises:
        ResultsError: the file is missing or not valid CSV, or a line has another number of fields than the header.
    """
    text = io.StringIO(read_text(path, ResultsError, remedy=AGAIN), newline="")
    reader = csv.reader(text, strict=True)
    with decoding(path, ResultsError, "a table as CSV", AGAIN):
        columns, *lines = [(reader.line_num, fields) for fields in reader] or [(0, [])]
    names = columns[1]
    if len(set(names)) < len(names):
        raise ResultsError(f"{path}: expected columns of different names, got {', '.join(names)}; {AGAIN}")
    for number, fields in lines:
        if len(fields) != len(names):
            want = f"{len(names)} fields ({', '.join(names)})"
            raise ResultsError(f"{path}:{number}: expected {want}, got {len(fields)}")
    return [{key: _value(text) for key, text in zip(names, fields, strict=True) if text != ""} for _, fields in lines]


def read_metrics(path: Path) -> dict[str, Any]:
    """The numbers in a metrics.json by name; some are in nested mappings.

    Raises:
        ResultsError: the file is missing or has other content.
    """
    data = read_bytes(path, ResultsError)
    with decoding(path, ResultsError, "a mapping of names to numbers as JSON", AGAIN):
        values = json.loads(data)
        _require_numbers(values)
    return values


def _require_numbers(values: Any) -> None:
    for value in values.values():
        if isinstance(value, dict):
            _require_numbers(value)
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{value!r:.40} for a number")


def numbers(rows: Sequence[Mapping[str, Value]], name: str) -> list[float]:
    """The column `name` of all rows.

    Raises:
        ValueError: a row has no number there.
    """
    values = [row.get(name) for row in rows]
    wrong = [value for value in values if value is None or isinstance(value, str)]
    if wrong:
        raise ValueError(f"{name}: expected a number in every row, got {wrong[0]!r}")
    return [float(value) for value in values if value is not None]


def grouped(rows: Sequence[Row], by: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows grouped by their values in the columns `by`, in order of first appearance; a missing value is None."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in by), []).append(row)
    return groups


def statistic(values: Sequence[float]) -> Statistic:
    """Mean, sample standard deviation and number of `values`, which must not be empty."""
    if not values:
        raise ValueError("expected at least one value, got none")
    # a diverged run may report infinities, which statistics.stdev and math.fsum do not handle
    mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values) / len(values)
    finite = len(values) > 1 and all(map(math.isfinite, values))
    return Statistic(mean=mean, std=statistics.stdev(values) if finite else math.nan, n=len(values))


def over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """{name: mean over the runs, name_std: sample standard deviation of several finite values}, for every name.

    Raises:
        ValueError: a run lacks a value that another has, or the value is not a number.
    """
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        value = statistic(numbers(runs, name))
        found[name] = value.mean
        if not math.isnan(value.std):
            found[f"{name}_std"] = value.std
    return found


def statistic_of(values: Mapping[str, float], name: str) -> Statistic:
    """Mean and standard deviation of `name` in a result of `over_seeds`, for a figure."""
    return Statistic(values[name], values.get(f"{name}_std", math.nan), int(values.get("seeds", 1)))


def cell(values: Mapping[str, float], name: str, form: str) -> str:
    """`1.23 ± 0.04` from a result of `over_seeds`, or only the mean for one seed."""
    text = form.format(values[name])
    return f"{text} ± {form.replace('+', '').format(values[f'{name}_std'])}" if f"{name}_std" in values else text


def spread(rows: Sequence[Mapping[str, Value]], column: str, form: str) -> str:
    """`1.23 ± 0.04` from a column of rows, one for each seed, or only the mean for one seed."""
    return cell(over_seeds([{column: value} for value in numbers(rows, column)]), column, form)


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]], *, names: int | None = None) -> str:
    """A Markdown table; columns after the first `names` are numbers and right-aligned.

    Vertical bars in cells are escaped, and line breaks become spaces.
    """
    words = len(heads) if names is None else names
    rule = ["---"] * words + ["---:"] * (len(heads) - words)
    escaped = [[" ".join(text.replace("|", r"\|").splitlines()) for text in cells] for cells in (heads, *lines)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (escaped[0], rule, *escaped[1:]))


def _written(value: Value) -> str:
    if isinstance(value, float):
        return repr(float(value))  # NumPy floats have another repr
    return "" if value is None else str(value)


def _value(text: str) -> Value:
    if text in ("True", "False"):
        return text == "True"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
