"""The picture of docs/architecture.md is that of dvc.yaml."""

from pathlib import Path

import pytest
from tests.workflows.checkout import ROOT

from workflows.architecture import PICTURE, columns, direct, main


def test_the_picture_is_that_of_the_stages(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    PICTURE.unlink()
    main()
    assert PICTURE.read_bytes() == (ROOT / PICTURE).read_bytes(), "run: python -m workflows.architecture"


def test_what_is_read_through_another_stage_has_no_arrow_of_its_own() -> None:
    read = {"data": [], "train": ["data"], "evaluate": ["data", "train"], "report": ["train", "evaluate"]}
    assert direct(read) == {"data": [], "train": ["data"], "evaluate": ["train"], "report": ["evaluate"]}
    assert columns(read) == {"data": 0, "train": 1, "evaluate": 2, "report": 3}
