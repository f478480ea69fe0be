"""How a training that resumes knows whether its data are still the same."""

from pathlib import Path

import pytest

from deq_core.experiment.data import contents as module
from deq_core.experiment.data.contents import contents


def replaced(folder: Path, name: str, sized: tuple[str, ...] | None = None) -> bool:
    """Whether a file that is replaced by one of its size counts as changed."""
    path = folder / name
    path.write_bytes(b"before")
    before = contents([path], sized)
    path.write_bytes(b"after!")
    return contents([path], sized) != before


def test_a_file_that_is_replaced_by_one_of_its_size_has_changed(tmp_path: Path) -> None:
    assert replaced(tmp_path, "frame.flo")


def test_of_many_bytes_only_the_sizes_count_but_for_files_that_are_always_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HASHED", 5)
    assert not replaced(tmp_path, "frame.flo")
    assert not replaced(tmp_path, "a.PNG", (".png",))
    assert replaced(tmp_path, "boxes.json", (".png",))


def test_dates_and_links_change_nothing(tmp_path: Path) -> None:
    path, link = tmp_path / "frame.flo", tmp_path / "link.flo"
    path.write_bytes(b"flow")
    link.symlink_to(path)
    before = contents([path])
    path.touch()
    assert contents([link, path]) == before
