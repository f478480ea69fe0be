"""The motion that networks are compared by is what it says, and the tables have a row a method."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.flow.frames import aloe, known, main, motorcycle, moved, reduced_pair, still, video_pairs

from deq_core.experiment.data.images import write_image
from deq_core.experiment.data.photographs import VALIDATION, load_all
from deq_core.experiment.media import video_file
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
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| left after warping | no flow | DIS | DIS, finest | without refinement | as they are |"
    assert lines[2].startswith("| a | 0.00 | 0.00 | 0.00 |")
    with pytest.raises(SystemExit, match="expected pairs such as NAME_img1"):
        main(["--pairs", str(Path(__file__).parent)])


def test_pairs_of_a_video_are_one_and_four_frames_apart_in_the_middle_of_its_thirds(tmp_path: Path) -> None:
    video_file.write(tmp_path / "grey.avi", (torch.full((3, 32, 48), 4 * n, dtype=torch.uint8) for n in range(30)))
    found = video_pairs(tmp_path / "grey.avi")
    numbers = {
        name: [tuple(round(frame.float().mean().item() / 4) for frame in pair) for pair in pairs]
        for name, pairs in found.items()
    }
    assert numbers == {"grey, 1 apart": [(5, 6), (15, 16), (25, 26)], "grey, 4 apart": [(5, 9), (15, 19), (25, 29)]}
    video_file.write(tmp_path / "short.avi", torch.zeros(24, 3, 32, 48, dtype=torch.uint8))
    with pytest.raises(SystemExit, match=r"short\.avi: expected a video of 25 frames or more, got 24"):
        video_pairs(tmp_path / "short.avi")


def test_of_known_flow_there_is_the_error_and_what_the_true_flow_leaves_if_all_of_it_is_known() -> None:
    (photograph,) = load_all(VALIDATION[:1])
    pair = moved(photograph, 15.0, np.random.default_rng(0))
    nothing = {"no flow": lambda first, second: torch.zeros(2, *first.shape[1:])}
    lines = known(nothing, {"moved": [pair, pair]}).splitlines()
    assert lines[0] == "|  | moved, EPE | left after warping |"
    none, truth = ([float(cell) for cell in line.split("|")[2:-1]] for line in lines[2:])
    assert none[0] == pytest.approx(pair.flow.norm(dim=0).mean().item(), rel=5e-3)
    assert none[1] == pytest.approx(warped_error(pair.image1, pair.image2), abs=6e-3)
    assert truth == [0, pytest.approx(warped_error(pair.image1, pair.image2, pair.flow), abs=6e-3)]
    assert len(known(nothing, {"real": [reduced_pair(motorcycle(), 93)]}).splitlines()) == 3


def test_the_pair_of_opencv_moves_to_the_left_where_its_disparity_is_known(tmp_path: Path) -> None:
    disparity = torch.zeros(3, 8, 12, dtype=torch.uint8)
    disparity[:, 2:, 3:] = 7
    for name, image in (("aloeL.jpg", disparity), ("aloeR.jpg", disparity), ("aloeGT.png", disparity)):
        write_image(tmp_path / name, image)
    pair = aloe(tmp_path)
    assert torch.equal(pair.valid, disparity[0] > 0)
    assert torch.equal(pair.flow, torch.stack([-disparity[0].float(), torch.zeros(8, 12)]))
