"""Who gets a package, or weights and text with it, gets the terms that they come under."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LICENCE = (ROOT / "LICENSE").read_bytes()
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))


def contents(archive: Path) -> dict[str, bytes]:
    """The files of a wheel or of a source distribution, by their paths in it."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(archive) as source:
        members = ((member.name, source.extractfile(member)) for member in source)
        return {name: file.read() for name, file in members if file is not None}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_wheel_and_source_distribution_has_the_licence(package: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--directory", tmp_path], cwd=package, check=True)
    built = {path.suffix: contents(path) for path in tmp_path.iterdir()}
    assert set(built) == {".whl", ".gz"}
    for files in built.values():
        assert LICENCE in [data for name, data in files.items() if Path(name).name == "LICENSE"]
        cards = {Path(name).parent: data.decode() for name, data in files.items() if Path(name).name == "CARD.md"}
        weights = {Path(name).parent for name in files if name.endswith(".safetensors")}
        assert weights == set(cards)
        assert all("\n## Licence\n\nMIT" in card for card in cards.values())
        texts = {Path(name).name.partition(".")[0] for name in files if name.endswith(".txt.xz")}
        assert texts == {Path(name).stem for name in files if name.endswith(".NOTICE")}
