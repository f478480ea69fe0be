"""Submissions: the leaderboards' files and names, whole or not at all."""

from pathlib import Path

import pytest
import torch
from tests.flow.small import SCENES, equilibrium, unrolled, write_kitti_set, write_sintel

from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.outputs.written import files_of
from deq_flow.data.io import read_flo, read_kitti
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.sintel import Sintel
from deq_flow.evaluation import submission
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference

TWO = Inference(stop=StopConfig(max_steps=2), steps=2)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in files_of(folder)}


def test_sintel_gets_a_file_a_pair_under_the_names_of_the_leaderboard(tmp_path: Path) -> None:
    root, out = write_sintel(tmp_path / "data", "test"), tmp_path / "out"
    done = submission.sintel(equilibrium(), TWO, root=root, out=out)
    assert files_below(out) == {
        f"{render}/{scene}/frame{number:04d}.flo"
        for render in ("clean", "final")
        for scene, frames in SCENES.items()
        for number in range(1, frames)
    }
    assert done == {"files": 10, "iterations": 2}
    sample = Sintel(root, "final", "test")[1]
    expected = Estimator(equilibrium(), TWO)(sample.image1[None], sample.image2[None]).flow[0]
    assert torch.equal(read_flo(out / "final" / "alley_1" / "frame0002.flo"), expected)


def test_a_warm_start_changes_all_but_the_first_frame_of_each_scene(tmp_path: Path) -> None:
    root = write_sintel(tmp_path / "data", "test")
    for start in ("cold", "warm"):
        submission.sintel(unrolled(), TWO, root=root, out=tmp_path / start, start=start)
    for name in files_below(tmp_path / "cold"):
        same = (tmp_path / "cold" / name).read_bytes() == (tmp_path / "warm" / name).read_bytes()
        assert same == name.endswith("frame0001.flo"), name


def test_kitti_gets_the_folder_flow_with_every_pixel_valid(tmp_path: Path) -> None:
    root, out = write_kitti_set(tmp_path / "data", "testing"), tmp_path / "out"
    done = submission.kitti(equilibrium(), TWO, root=root, out=out)
    assert files_below(out) == {"flow/000000_10.png", "flow/000001_10.png"}
    assert done == {"files": 2, "iterations": 2, "clipped": 0}
    sample = Kitti(root, "testing")[1]
    expected = Estimator(equilibrium(), TWO, padding="bottom")(sample.image1[None], sample.image2[None]).flow[0]
    flow, valid = read_kitti(out / "flow" / "000001_10.png")
    assert valid.all()
    torch.testing.assert_close(flow, expected, rtol=0, atol=1 / 128 + 1e-4)


def test_what_the_format_cannot_hold_is_clipped_and_counted() -> None:
    flow = torch.zeros(2, 2, 3)
    flow[0, 0, 0], flow[1, 1, 2], flow[0, 1, 1] = 600.0, -513.0, 511.0
    held, clipped = submission.within_range(flow)
    assert clipped == 2
    assert -512 <= float(held.min()) < float(held.max()) < 512
    assert float(held[0, 1, 1]) == 511.0


def test_a_damaged_frame_leaves_the_last_submission_as_it_was(tmp_path: Path) -> None:
    root, out = write_sintel(tmp_path / "data", "test"), tmp_path / "out"
    submission.sintel(equilibrium(), TWO, root=root, out=out)
    before = {name: (out / name).read_bytes() for name in files_below(out)}
    frame = root / "Sintel" / "test" / "final" / "market_2" / "frame_0003.png"
    frame.write_bytes(frame.read_bytes()[:40])
    with pytest.raises(FileFormatError, match="frame_0003"):
        submission.sintel(unrolled(), TWO, root=root, out=out)
    assert {name: (out / name).read_bytes() for name in files_below(out)} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
