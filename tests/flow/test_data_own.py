"""A set of one's own: found in either layout, read from any format, and what is wrong with it named by file."""

from pathlib import Path

import pytest
import torch
from tests.flow.small import write_flow

from deq_core.experiment.data.images import FileFormatError, write_image
from deq_core.experiment.data.layout import LayoutError
from deq_flow.cli import main
from deq_flow.data.registry import REGISTRY
from deq_flow.data.sets.own import FLOWS, Own

SIZE = (20, 30)


def write(path: Path, *, value: float = 1.0, size: tuple[int, int] = SIZE) -> Path:
    """An image, or flow (value, 2 value), whichever belongs at such a path."""
    if path.suffix == ".flo" or "flow" in (path.stem[-4:], path.parent.name):
        write_flow(path, torch.tensor([float(value), 2.0 * value])[:, None, None].repeat(1, *size))
    else:
        write_image(path, torch.full((3, *size), int(value), dtype=torch.uint8))
    return path


def pairs(root: Path, *names: str, suffix: str = ".flo") -> Path:
    for name in names:
        for file in (f"{name}_img1.png", f"{name}_img2.png", f"{name}_flow{suffix}"):
            write(root / file)
    return root


def video(root: Path, name: str = ".", frames: int = 3, step: int = 1) -> Path:
    for frame in range(frames):
        write(root / "frames" / name / f"{step * frame + 8}.png", value=frame)
        if frame < frames - 1:
            write(root / "flow" / name / f"{step * frame + 8}.flo", value=frame + 1)
    return root


def faults(root: Path, *, thorough: bool = False) -> list[str]:
    return [str(problem).replace(str(root), "own") for problem in REGISTRY.check("own", root, thorough=thorough)]


@pytest.mark.parametrize("suffix", FLOWS)
def test_flow_is_read_from_every_format(suffix: str, tmp_path: Path) -> None:
    (sample,) = (Own(pairs(tmp_path, "a", suffix=suffix))[0],)
    assert sample.flow.equal(torch.tensor([1.0, 2.0])[:, None, None].repeat(1, *SIZE))
    assert sample.valid.all()
    assert faults(tmp_path, thorough=True) == []


def test_pairs_are_found_at_any_depth_and_each_folder_is_a_scene(tmp_path: Path) -> None:
    found = Own(pairs(tmp_path, "b/10", "b/9", "a/c/1", ".hidden/1"))
    assert [found[index].name for index in range(len(found))] == ["a/c/1", "b/9", "b/10"]
    assert found.groups() == {"a/c": range(1), "b": range(1, 3)}


def test_pairs_behind_a_link_to_a_folder_are_found_like_the_others(tmp_path: Path) -> None:
    root = pairs(tmp_path / "own", "a/1", "b/1")
    (root / "b").rename(tmp_path / "disk")
    (root / "b").symlink_to(tmp_path / "disk")
    assert Own(root).groups() == {"a": range(1), "b": range(1, 2)}


@pytest.mark.parametrize("step", [1, 10])
def test_frames_of_a_video_follow_each_other_by_number(step: int, tmp_path: Path) -> None:
    video(video(tmp_path, "a", step=step), "b", frames=2)
    found = Own(tmp_path)
    assert found.groups() == {"a": range(2), "b": range(2, 3)}
    assert [
        (int(found[i].image1.max()), int(found[i].image2.max()), float(found[i].flow[0, 0, 0])) for i in (0, 1)
    ] == [
        (0, 1, 1.0),
        (1, 2, 2.0),
    ]
    assert faults(tmp_path) == []


def test_flow_that_is_known_nowhere_is_an_error(tmp_path: Path) -> None:
    pairs(tmp_path, "a")
    write_flow(tmp_path / "a_flow.flo", torch.full((2, *SIZE), torch.nan))
    with pytest.raises(FileFormatError, match=r"a_flow\.flo: expected flow that is known somewhere"):
        Own(tmp_path)[0]


def gap(root: Path) -> None:
    video(root, frames=5)
    (root / "frames/10.png").unlink()
    (root / "flow/10.flo").unlink()


WRONG = {
    "no folder": (lambda root: root.rmdir(), r"expected a folder of pairs with flow, but there is none"),
    "nothing": (lambda root: None, r"expected pairs with flow, got none; a pair is NAME_img1"),
    "no flow": (lambda root: (pairs(root, "a") / "a_flow.flo").unlink(), r"^missing: .*a_flow\.flo"),
    "no frame": (lambda root: (pairs(root, "a") / "a_img2.png").unlink(), r"missing: .*a_img2\.png; a pair is"),
    "two flows": (lambda root: write(pairs(root, "a") / "a_flow.png"), r"a_flow.* two files for one place"),
    "two frames": (lambda root: write(video(root) / "frames/9.ppm"), r"9\.p.* two files for one place"),
    "frame without flow": (lambda root: (video(root) / "flow/9.flo").unlink(), r"missing: .*flow/9\.flo; a video"),
    "flow without frame": (lambda root: write(video(root) / "flow/10.flo"), r"flow/10\.flo: expected an image"),
    "a gap": (gap, r"frames/11\.png: expected the frame 1 after the one before, .*got one 2 after it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_layout_is_named_by_file(name: str, tmp_path: Path) -> None:
    root = tmp_path / "own"
    root.mkdir()
    spoil, message = WRONG[name]
    spoil(root)
    with pytest.raises(LayoutError, match=message):
        Own(root)
    assert faults(root)


def test_check_data_names_files_of_another_size_and_flow_that_is_none(tmp_path: Path) -> None:
    pairs(tmp_path, "a", "b", "c", suffix=".png")
    write(tmp_path / "a_img2.png", size=(20, 31))
    write(tmp_path / "b_flow.png", size=(10, 15))
    write_image(tmp_path / "c_flow.png", torch.zeros(3, *SIZE, dtype=torch.uint8))
    first, second, third = sorted(faults(tmp_path))
    assert first.startswith("own/a_img2.png: expected 30x20 pixels, the size of the first frame of its pair, got 31x20")
    assert second.startswith("own/b_flow.png: expected 30x20 pixels, the size of its image, got 15x10")
    assert third.startswith("own/c_flow.png: expected a 16-bit PNG of three channels, got 8 bits")


def test_nothing_is_downloaded_of_it(tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"own: nothing to download for your own pairs; put them into a folder; a pair is"
    ):
        main(["download", "own", "--out", str(tmp_path / "out")])


def test_images_of_any_suffix_are_checked(tmp_path: Path) -> None:
    pairs(tmp_path, "a")
    (tmp_path / "a_img1.png").unlink()
    (tmp_path / "a_img1.webp").write_bytes(bytes(100))
    (fault,) = faults(tmp_path)
    assert fault.startswith("own/a_img1.webp: expected a BMP, JPEG, PNG, PPM, TIFF, WEBP file")
