"""The motion that networks are compared by is what it says, and the tables have a row a method."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.flow.frames import main, motorcycle, moved, reduced_pair, still

from deq_core.experiment.data.images import write_image
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


def test_a_reduced_pair_has_the_flow_of_its_size() -> None:
    pair = reduced_pair(motorcycle(), 370)
    assert pair.image1.shape == (3, 250, 370)
    assert float(pair.flow.abs().max()) == pytest.approx(float(motorcycle().flow.abs().max()) / 741 * 370, rel=0.02)
    assert warped_error(pair.image1, pair.image2, pair.flow) < 0.5 * warped_error(pair.image1, pair.image2)


def test_the_tables_have_a_row_a_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.flow.frames.HEIGHT", 96)
    monkeypatch.setattr("benchmarks.flow.frames.WIDTH", 128)
    main(["--sides", "64", "--speeds", "--widths", "93"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| EPE, px | motorcycle, 93 | still |"
    methods = ["no flow", "DIS", "DIS, finest", "64", "without refinement", "as they are"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == methods
    assert [line.split(" | ")[-1] for line in lines[2:5]] == ["0 |"] * 3
    photograph = still(load_all(VALIDATION[:1])[0]).image1[:, :64]
    for name in ("a_img1", "a_img2"):
        write_image(tmp_path / f"{name}.png", photograph)
    main(["--pairs", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[0] == "| left after warping | a |"
    with pytest.raises(SystemExit, match="expected pairs such as NAME_img1"):
        main(["--pairs", str(Path(__file__).parent)])
