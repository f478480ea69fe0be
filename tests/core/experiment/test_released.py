"""Published sets as the data of a pipeline: what is missing is fetched, all is checked and listed."""

import json
from pathlib import Path

import pytest

from deq_core.experiment.data import registry
from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import files_below
from deq_core.experiment.data.published import DataSet
from deq_core.experiment.data.registry import Registry, ReleasedSets
from deq_core.experiment.download.fetch import Archive, Source
from deq_core.experiment.errors import FileFormatError

SOURCE = Source(
    title="Things",
    page="https://things.example",
    licence="Free.",
    archives=tuple(Archive(out=f"things/{name}", name=f"{name}.zip") for name in ("frames", "flow")),
)
PARTS = tuple(Part(name, lambda root: [1]) for name in ("frames", "flow"))


def whole(path: Path, *, decoded: bool) -> None:
    """Refuses a file without content."""
    if not path.stat().st_size:
        raise FileFormatError(f"{path}: empty")


SETS = Registry(
    program="deq-things", sets={"things": DataSet(source=SOURCE, folder="things", parts=PARTS, whole={".bin": whole})}
)


@pytest.mark.parametrize("complete", [True, False])
def test_a_whole_set_goes_on_where_its_download_ended_between_two_archives(
    complete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tmp_path / "sets"
    (sets / "things" / "frames").mkdir(parents=True)
    monkeypatch.setattr(registry, "fetch", lambda source, root: (root / "things" / "flow").mkdir())
    SETS.prepare(tmp_path / "data", ReleasedSets(root=str(sets), sets=("things",), complete=complete))
    assert (sets / "things" / "flow").exists() == complete


def test_what_lies_behind_a_link_to_a_folder_is_checked_and_listed(tmp_path: Path) -> None:
    sets, disk = tmp_path / "sets", tmp_path / "disk"
    (sets / "things" / "flow").mkdir(parents=True)
    disk.mkdir()
    (disk / "a.bin").write_bytes(b"")
    (disk / "back").symlink_to(sets / "things")
    (sets / "things" / "frames").symlink_to(disk)
    assert files_below(sets) == [sets / "things" / "frames" / "a.bin"]
    damaged = sets / "things" / "frames" / "a.bin"
    assert [str(problem) for problem in SETS.check("things", sets)] == [f"{damaged}: empty"]
    damaged.write_bytes(b"whole")
    SETS.prepare(tmp_path / "data", ReleasedSets(root=str(sets), sets=("things",)))
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["files"] == {"things/frames/a.bin": 5}
