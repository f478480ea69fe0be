"""docs/evaluation.md tells the truth: its parameters load, its tables name what there is."""

import re
from pathlib import Path
from typing import get_args

import pytest
from tests.flow.small import write_kitti_set, write_sintel

from deq_core.experiment import config
from deq_flow.evaluation.evaluate import measured
from deq_flow.evaluation.sets import SETS
from deq_flow.inference_params import Measure, Start, Starts

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("index", "kind"), [(0, Measure), (1, Starts)])
def test_the_parameters_load(index: int, kind: type, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("here:\n" + "".join(f"  {line}\n" for line in blocks("yaml")[index].splitlines()))
    assert config.load(kind, path, "here") != kind()


def test_sets_starts_and_columns_are_those_there_are(tmp_path: Path) -> None:
    cells = {cell for line in PAGE.splitlines() if line.startswith("| `") for cell in re.findall(r"`([^`]+)`", line)}
    assert set(SETS) - {"motorcycle", "video", "validation_video"} <= cells
    assert set(get_args(Start)) <= cells
    root = write_kitti_set(write_sintel(tmp_path))
    columns = {key for name in ("sintel_clean", "kitti") for key in measured_keys(root, name)}
    named = {cell.rstrip(".") for cell in cells}
    assert {column.partition(".")[0] for column in columns} - {"pixels"} <= named


def measured_keys(root: Path, name: str) -> set[str]:
    sample = SETS[name].read(root)[0]
    return set(measured(sample.flow, sample))
