"""The picture of docs/architecture.md is that of dvc.yaml."""

from pathlib import Path

from tests.workflows.checkout import ROOT, copy, run

from workflows.architecture import PICTURE, columns, direct


def test_the_picture_is_that_of_the_stages(tmp_path: Path) -> None:
    folder = copy(tmp_path / "copy")
    (folder / PICTURE).unlink()
    run(folder, "python", "-m", "workflows.architecture")
    assert (folder / PICTURE).read_bytes() == (ROOT / PICTURE).read_bytes(), "run: python -m workflows.architecture"


def test_what_is_read_through_another_stage_has_no_arrow_of_its_own() -> None:
    read = {"data": [], "train": ["data"], "evaluate": ["data", "train"], "report": ["train", "evaluate"]}
    assert direct(read) == {"data": [], "train": ["data"], "evaluate": ["train"], "report": ["evaluate"]}
    assert columns(read) == {"data": 0, "train": 1, "evaluate": 2, "report": 3}
