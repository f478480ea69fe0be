"""The motion that frame sizes are compared by is what it says, and the table has a row a method."""

import numpy as np
import pytest
import torch
from benchmarks.flow.frame_sizes import main, motorcycle, moved

from deq_core.experiment.data.photographs import VALIDATION, load_all
from deq_flow.demo.warped import warped_error


def test_the_second_view_is_the_first_moved_by_the_flow() -> None:
    (photograph,) = load_all(VALIDATION[:1])
    pair = moved(photograph, 15.0, np.random.default_rng(0))
    assert float(pair.flow[:, 240, 320].norm()) == pytest.approx(15.0, abs=1e-3)
    assert warped_error(pair.image1, pair.image2, pair.flow) < 0.15 * warped_error(pair.image1, pair.image2)


def test_the_real_pair_moves_to_the_left() -> None:
    pair = motorcycle()
    assert pair.flow[:, pair.valid].isfinite().all()
    assert warped_error(pair.image1, pair.image2, pair.flow) < 0.5 * warped_error(pair.image1, pair.image2)


def test_the_table_has_a_row_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    main(["--sides", "64", "--speeds", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| longer side | motorcycle | moved by 3 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| no flow", "| DIS", "| 64"]
