"""What a release hands out: wheels with all they need, under the terms that they come with, in one version."""

import importlib
import subprocess
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest
from release import licences, version
from release.dependencies import ROOT
from release.distributions import PACKAGES, build

import deq_core.experiment
from deq_core.experiment.data import photographs

LICENCE = (ROOT / "LICENSE").read_bytes()
PAGE = licences.PAGE.read_text()


def contents(archive: Path) -> dict[str, bytes]:
    """The files of a wheel or of a source distribution, by their paths in it."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(archive) as source:
        members = ((member.name, source.extractfile(member)) for member in source)
        return {name: file.read() for name, file in members if file is not None}


@pytest.fixture(scope="module", params=PACKAGES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """Contents of a package's wheel and source distribution."""
    return [contents(path) for path in build(ROOT / "packages" / request.param, tmp_path_factory.mktemp("built"))]


def told(wheel: dict[str, bytes]) -> Message:
    """The metadata of a wheel."""
    return message_from_bytes(next(data for name, data in wheel.items() if name.endswith(".dist-info/METADATA")))


def test_every_wheel_and_source_distribution_has_the_licence(built: list[dict[str, bytes]]) -> None:
    for files in built:
        assert LICENCE in [data for name, data in files.items() if Path(name).name == "LICENSE"]
        cards = {Path(name).parent: data.decode() for name, data in files.items() if Path(name).name == "CARD.md"}
        weights = {Path(name).parent for name in files if name.endswith(".safetensors")}
        assert weights == set(cards)
        assert all("\n## Licence\n\nMIT" in card for card in cards.values())
        texts = {Path(name).name.partition(".")[0] for name in files if name.endswith(".txt.xz")}
        assert texts == {Path(name).stem for name in files if name.endswith(".NOTICE")}


def test_a_wheel_has_every_file_of_its_package_and_nothing_else(built: list[dict[str, bytes]]) -> None:
    wheel, _ = built
    source = f"packages/{told(wheel)['Name']}/src"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", source]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    here = {str(Path(name).relative_to(source)) for name in listed if (ROOT / name).exists()}
    assert {name for name in wheel if ".dist-info/" not in name} == here
    assert f"{told(wheel)['Name'].replace('-', '_')}/py.typed" in wheel


def test_a_wheel_asks_for_what_its_package_declares(built: list[dict[str, bytes]]) -> None:
    wheel, _ = built
    said = told(wheel)
    project = tomllib.loads((ROOT / "packages" / said["Name"] / "pyproject.toml").read_text())["project"]
    assert said["Version"] == version.current()
    assert said["License-Expression"] == "MIT"
    assert (said.get_all("Provides-Extra") or []) == list(project.get("optional-dependencies", {}))
    plain = [one for one in said.get_all("Requires-Dist") or [] if ";" not in one]
    if said["Name"] == "deq-core":
        assert plain == ["torch>=2.6"]
    else:
        assert f"deq-core[experiment]=={version.current()}" in plain
        program = f"{said['Name']} = deq_program:main"
        assert program in next(data for name, data in wheel.items() if name.endswith("entry_points.txt")).decode()
    assert len(plain) == len(project["dependencies"])


def test_the_page_of_licences_is_that_of_the_pinned_versions() -> None:
    assert licences.made(PAGE) == PAGE, "run `python -m release.licences`"


def test_no_wheel_asks_for_anything_under_the_gpl() -> None:
    assert [
        row for row in PAGE.splitlines() if row.startswith("| ") and "GPL" in row and licences.TOOLS not in row
    ] == []


def test_the_page_of_licences_has_all_that_ships_and_every_photograph() -> None:
    used = (
        photographs.TRAINING,
        photographs.MORE_TRAINING,
        photographs.VALIDATION,
        photographs.TEST,
        photographs.STEREO,
    )
    assert [name for names in used for name in names if f"`{name}`" not in PAGE] == []
    cards = (ROOT / "packages").glob("*/src/*/checkpoints/*/CARD.md")
    notices = (ROOT / "packages").glob("*/src/*/data/*.NOTICE")
    assert [path for path in (*cards, *notices) if f"(../{path.relative_to(ROOT).as_posix()})" not in PAGE] == []


def test_one_command_writes_the_version_wherever_it_stands(tmp_path: Path) -> None:
    before = version.current()
    for name in version.find():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    version.write("4.5.6rc1", tmp_path)
    assert version.current(tmp_path) == "4.5.6rc1"
    for name in version.find():
        assert (tmp_path / name).read_text().replace("4.5.6rc1", before) == (ROOT / name).read_text()
    (tmp_path / "CITATION.cff").write_text("version: 0.0.1\n")
    with pytest.raises(ValueError, match=r"expected one version everywhere.*0\.0\.1"):
        version.current(tmp_path)
    with pytest.raises(ValueError, match="expected a version such as"):
        version.write("new", tmp_path)


def test_experiments_without_their_extra_tell_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = metadata.distribution

    def distribution(name: str) -> metadata.Distribution:
        if name in ("mlflow", "tyro"):
            raise metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    with pytest.raises(ModuleNotFoundError, match=r"needs mlflow, tyro, .*: pip install 'deq-core\[experiment\]'"):
        importlib.reload(deq_core.experiment)
