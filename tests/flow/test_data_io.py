"""Files: what the release reads and writes, round trips, and damaged files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from tests.flow.small import write_flow

from deq_core.experiment.data import arrays, images
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.errors import ResultsError
from deq_flow.data import flo5, headers, io

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """Files and values recorded from the release's readers and writers."""
    with np.load(GOLDEN / "flow_io.npz") as arrays:
        return {**json.loads((GOLDEN / "flow_io.json").read_text()), **arrays}


def flow(h: int = 5, w: int = 7) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 20, (2, h, w)).astype(np.float32))


def image(h: int = 6, w: int = 9) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, h, w), dtype=np.uint8))


def test_flo_files_of_the_release_are_read_and_written_byte_for_byte(recorded: dict[str, Any], tmp_path: Path) -> None:
    data = bytes.fromhex(recorded["flo_hex"])
    (tmp_path / "a.flo").write_bytes(data)
    values = io.read_flo(tmp_path / "a.flo")
    assert values.shape == (2, 5, 7)
    np.testing.assert_array_equal(
        values.permute(1, 2, 0).numpy(), np.frombuffer(data[12:], np.float32).reshape(5, 7, 2)
    )
    io.write_flo(tmp_path / "b.flo", values)
    assert (tmp_path / "b.flo").read_bytes() == data


def test_kitti_flow_decodes_as_in_the_release(recorded: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.array(recorded["kitti_png_pixels_bgr16"], dtype=np.uint16))
    values, valid = io.read_kitti(path)
    np.testing.assert_array_equal(values.permute(1, 2, 0).numpy(), recorded["kitti_roundtrip_flow"])
    assert valid.all()


def test_sparse_kitti_flow_is_zero_where_it_is_not_known(recorded: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.array(recorded["kitti_sparse_bgr16"], dtype=np.uint16))
    values, valid = io.read_kitti(path)
    known = recorded["kitti_sparse_valid"] > 0
    np.testing.assert_array_equal(valid.numpy(), known)
    expected = np.where(known[:, :, None], recorded["kitti_sparse_flow"], 0)
    np.testing.assert_array_equal(values.permute(1, 2, 0).numpy(), expected)


def test_kitti_flow_survives_to_half_a_step(tmp_path: Path) -> None:
    valid = torch.from_numpy(np.random.default_rng(2).uniform(size=(5, 7)) < 0.5)
    values = flow()
    values[:, ~valid] = torch.nan
    io.write_kitti(tmp_path / "a.png", values, valid)
    read, known = io.read_kitti(tmp_path / "a.png")
    assert torch.equal(known, valid)
    assert (read - values)[:, valid].abs().max() <= 1 / 128
    assert (read[:, ~valid] == 0).all()


@pytest.mark.parametrize(("value", "fits"), [(-512.0, True), (511.98, True), (-512.1, False), (512.0, False)])
def test_kitti_flow_outside_the_format_is_refused_not_wrapped(value: float, fits: bool, tmp_path: Path) -> None:
    values, valid = torch.full((2, 2, 2), value), torch.ones(2, 2, dtype=torch.bool)
    if fits:
        io.write_kitti(tmp_path / "a.png", values, valid)
        torch.testing.assert_close(io.read_kitti(tmp_path / "a.png")[0], values, atol=1 / 128, rtol=0)
    else:
        with pytest.raises(ValueError, match=r"a\.png.*512"):
            io.write_kitti(tmp_path / "a.png", values, valid)
        assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("order", ["le", "be"])
def test_pfm_files_of_both_byte_orders_are_read_as_in_the_release(
    recorded: dict[str, Any], order: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.pfm"
    path.write_bytes(bytes.fromhex(recorded[f"pfm_{order}_hex"]))
    values = io.read_pfm(path)
    assert values.shape == (3, 2, 3)
    np.testing.assert_array_equal(values[:2].permute(1, 2, 0).numpy(), recorded[f"pfm_{order}"])


@pytest.mark.parametrize("channels", [1, 3])
def test_pfm_survives_a_round_trip(channels: int, tmp_path: Path) -> None:
    values = torch.randn(channels, 4, 6)
    io.write_pfm(tmp_path / "a.pfm", values)
    assert torch.equal(io.read_pfm(tmp_path / "a.pfm"), values)


@pytest.mark.parametrize("suffix", [".png", ".ppm"])
def test_images_survive_a_round_trip_in_rgb(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    images.write_image(path, image())
    assert torch.equal(images.read_image(path), image())
    assert torch.equal(torch.from_numpy(cv2.imread(str(path)))[:, :, 2], image()[0])  # OpenCV's last channel is red


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = np.random.default_rng(3).integers(0, 256, (4, 5), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert torch.equal(images.read_image(tmp_path / "grey.png"), torch.from_numpy(grey).expand(3, 4, 5))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([grey, grey, grey, grey]))
    assert images.read_image(tmp_path / "alpha.png").shape == (3, 4, 5)


def test_masks_survive_a_round_trip(tmp_path: Path) -> None:
    mask = torch.from_numpy(np.random.default_rng(4).uniform(size=(4, 5)) < 0.5)
    images.write_mask(tmp_path / "a.png", mask)
    assert torch.equal(images.read_mask(tmp_path / "a.png"), mask)


FORMATS: dict[str, Callable[[Path], object]] = {
    "a.flo": io.read_flo,
    "a.pfm": io.read_pfm,
    "flow_occ/a.png": io.read_kitti,
    "a.flo5": flo5.read_flo5,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_whole_at_no_other_length_and_of_no_other_kind(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_flow(path, flow())
    assert headers.size_of(path) == (5, 7)
    content = path.read_bytes()
    shorter = [content[:length] for length in range(0, len(content), max(1, len(content) // 50))]
    longer = [content + bytes(4)] if path.suffix in (".flo", ".pfm") else []
    for data in (*shorter, *longer, b"<html>Please log in</html>" * 100):
        path.write_bytes(data)
        for reader in (FORMATS[name], headers.size_of):
            with pytest.raises(FileFormatError, match=rf"{path.name}: expected .*; copy or unpack the file again"):
                reader(path)


def test_an_ordinary_image_is_not_kitti_flow(tmp_path: Path) -> None:
    images.write_image(tmp_path / "a.png", image())
    with pytest.raises(FileFormatError, match=r"a\.png: expected a 16-bit PNG of three channels, got uint8"):
        io.read_kitti(tmp_path / "a.png")


def test_writers_refuse_tensors_they_would_misinterpret(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"float32 flow \(2, h, w\), got torch.float32 \(5, 7, 2\)"):
        io.write_flo(tmp_path / "a.flo", flow().permute(1, 2, 0))
    with pytest.raises(ValueError, match=r"uint8 image \(3, h, w\), got torch.float32"):
        images.write_image(tmp_path / "a.png", image().float())
    with pytest.raises(ValueError, match=r"float32 \(1 or 3, h, w\), got torch.float32 \(2, 5, 7\)"):
        io.write_pfm(tmp_path / "a.pfm", flow())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("header", ["PF\n1 1\n1.2.3\n", "PF\n1 1\n--1\n", f"PF\n{'9' * 50} 1\n-1\n", "PF\n1 0\n-1\n"])
def test_a_portable_float_map_of_any_header_is_an_error_that_names_it(header: str, tmp_path: Path) -> None:
    path = tmp_path / "map.pfm"
    path.write_bytes(header.encode() + bytes(12))
    with pytest.raises(FileFormatError, match=r"map\.pfm: expected"):
        io.read_pfm(path)


@pytest.mark.parametrize("scale", ["-1", "-1.0", "-1.", "-.5", "-1e-3"])
def test_scales_of_a_portable_float_map_may_be_written_in_any_way(scale: str, tmp_path: Path) -> None:
    path = tmp_path / "map.pfm"
    path.write_bytes(f"Pf\n2 1\n{scale}\n".encode() + np.array([3.0, 4.0], "<f4").tobytes())
    assert io.read_pfm(path).flatten().tolist() == [3.0, 4.0]


def test_arrays_of_a_figure_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    arrays.write_arrays(path, {"maps": np.zeros((40, 40)), "steps": torch.arange(3)})
    whole = path.read_bytes()
    assert arrays.read_arrays(path)["steps"].tolist() == [0, 1, 2]
    flipped = bytearray(whole)
    flipped[60] ^= 4
    for content in (b"", whole[:-30], bytes(flipped), b"\x93NUMPY", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ResultsError, match=r"maps\.npz: expected"):
            arrays.read_arrays(path)


def test_nothing_but_the_arrays_is_stored_by_an_older_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.1 every keyword was an array, `allow_pickle` too."""
    stored: dict[str, object] = {}
    monkeypatch.setattr(np, "savez_compressed", lambda file, **given: stored.update(given))
    arrays.write_arrays(tmp_path / "maps.npz", {"maps": np.zeros(3)})
    assert list(stored) == ["maps"]


def test_flow_that_announces_far_more_than_its_file_has_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.flo5"
    with h5py.File(path, "w") as file:
        file.create_dataset("flow", shape=(200_000, 200_000, 2), chunks=(100, 100, 2), dtype="f4")
    for read in (flo5.read_flo5, headers.size_of):
        with pytest.raises(FileFormatError, match=r"big\.flo5: expected flow at every point, got 4000000 of its parts"):
            read(path)
    with h5py.File(path, "w") as file:
        zeros = np.zeros((4000, 9000, 2), np.float32)
        file.create_dataset("flow", data=zeros, chunks=(1000, 1000, 2), compression="gzip", compression_opts=9)
    with pytest.raises(FileFormatError, match=r"big\.flo5: expected what a file of \d+ bytes may hold"):
        flo5.read_flo5(path)


def test_flow_behind_a_link_to_another_file_is_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.flo5", "w") as file:
        file.create_dataset("flow", data=np.zeros((2, 2, 2), np.float32))
    with h5py.File(tmp_path / "link.flo5", "w") as file:
        file["flow"] = h5py.ExternalLink("other.flo5", "flow")
    with pytest.raises(FileFormatError, match=r"link\.flo5: expected a data set"):
        flo5.read_flo5(tmp_path / "link.flo5")
