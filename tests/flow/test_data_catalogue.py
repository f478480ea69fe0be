"""The catalogue leads to where the readers look: miniature archives of the real layouts from a local server."""

import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.core.experiment.server import serving

from deq_core.experiment.data.images import write_image
from deq_core.experiment.download.fetch import Source, fetch
from deq_core.experiment.download.resume import DownloadError
from deq_flow.data.io import write_flo, write_kitti, write_pfm
from deq_flow.data.registry import REGISTRY, SETS

FLOW = torch.ones(2, 4, 6)
GREY = torch.full((3, 4, 6), 99, dtype=torch.uint8)


def chairs(folder: Path) -> dict[str, Path]:
    """Folders of the archives' contents (or files), by the archive's name."""
    data = folder / "FlyingChairs_release" / "data"
    for pair in (1, 2):
        write_image(data / f"0000{pair}_img1.ppm", GREY)
        write_image(data / f"0000{pair}_img2.ppm", GREY)
        write_flo(data / f"0000{pair}_flow.flo", FLOW)
    (folder.parent / "split").write_text("1\n2\n")
    return {"FlyingChairs.zip": folder, "FlyingChairs_train_val.txt": folder.parent / "split"}


def things(folder: Path) -> dict[str, Path]:
    for split in ("TRAIN", "TEST"):
        for frame in ("0006", "0007"):
            for render in ("clean", "final"):
                frames = folder / render / f"frames_{render}pass"
                write_image(frames / split / "A/0000/left" / f"{frame}.png", GREY)
            for direction, word in (("into_future", "IntoFuture"), ("into_past", "IntoPast")):
                flows = folder / "flow/optical_flow" / split / "A/0000" / direction / "left"
                write_pfm(flows / f"OpticalFlow{word}_{frame}_L.pfm", torch.ones(3, 4, 6))
    return {
        "flyingthings3d__frames_cleanpass.tar": folder / "clean",
        "flyingthings3d__frames_finalpass.tar": folder / "final",
        "flyingthings3d__optical_flow.tar.bz2": folder / "flow",
    }


def sintel(folder: Path) -> dict[str, Path]:
    for split in ("training", "test"):
        for render in ("clean", "final"):
            for frame in (1, 2):
                write_image(folder / split / render / "alley_1" / f"frame_000{frame}.png", GREY)
    write_flo(folder / "training/flow/alley_1/frame_0001.flo", FLOW)
    return {"MPI-Sintel-complete.zip": folder}


def kitti(folder: Path) -> dict[str, Path]:
    for split in ("training", "testing"):
        for frame in (10, 11):
            write_image(folder / split / "image_2" / f"000000_{frame}.png", GREY)
    write_kitti(folder / "training/flow_occ/000000_10.png", FLOW, FLOW[0] > 0)
    return {"data_scene_flow.zip": folder}


def hd1k(folder: Path) -> dict[str, Path]:
    for frame in range(2):
        write_image(folder / "frames/hd1k_input/image_2" / f"000000_000{frame}.png", GREY)
        write_kitti(folder / "flow/hd1k_flow_gt/flow_occ" / f"000000_000{frame}.png", FLOW, FLOW[0] > 0)
    return {"hd1k_input.zip": folder / "frames", "hd1k_flow_gt.zip": folder / "flow"}


def packed(name: str, content: Path) -> bytes:
    """The archive of this name, or the file itself."""
    data = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(data, "w") as archive:
            for path in sorted(content.rglob("*")):
                archive.write(path, path.relative_to(content))
    elif ".tar" in name:
        with tarfile.open(fileobj=data, mode="w:bz2" if name.endswith("bz2") else "w:") as archive:
            for path in sorted(content.iterdir()):
                archive.add(path, path.name)
    else:
        return content.read_bytes()
    return data.getvalue()


@pytest.mark.parametrize("make", [chairs, things, sintel, kitti, hd1k])
def test_what_is_fetched_is_where_the_readers_look(
    make: Callable[[Path], dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    name = make.__name__
    contents = make(tmp_path / "made")
    source = REGISTRY.sets[name].source
    assert {archive.file for archive in source.archives} == set(contents)
    with serving() as web:
        web.files = {file: packed(file, content) for file, content in contents.items()}
        archives = tuple(replace(archive, urls=(web.url(archive.file),)) for archive in source.archives)
        fetch(replace(source, archives=archives), tmp_path / "data")
    assert REGISTRY.check(name, tmp_path / "data", released=False, thorough=True) == []
    counted = REGISTRY.check(name, tmp_path / "data")  # every part is there, and only the numbers are other ones
    assert all("pairs as released, got" in problem.fault for problem in counted)
    assert len(counted) == {"chairs": 2, "things": 4, "sintel": 4, "kitti": 2, "hd1k": 0}[name]


def test_spring_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"by hand from https://spring-benchmark\.org/: .*train_flow_FW_left\.zip"):
        REGISTRY.fetch("spring", tmp_path)


def test_the_page_has_every_set_with_its_folder_and_its_names() -> None:
    page = (Path(__file__).parents[2] / "docs" / "flow-data.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 6}
    assert rows.keys() == REGISTRY.sets.keys()
    for name, found in SETS.items():
        assert found.folder in rows[name]
        columns = [re.findall(r"`([^`]*)`", column) for column in rows[name].split("|")[4:6]]
        assert columns == [list(found.training), list(found.labelled)]


PUBLISHED = {name: each.source for name, each in REGISTRY.sets.items() if name != "own"}


@pytest.mark.parametrize("source", PUBLISHED.values(), ids=PUBLISHED)
def test_every_source_names_its_page_and_its_terms(source: Source) -> None:
    assert source.page.startswith("http")
    assert "Cite" in source.licence
