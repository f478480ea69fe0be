"""The picture of docs/architecture.md is that of dvc.yaml."""

from pathlib import Path

import pytest
from tests.workflows.checkout import ROOT

from workflows.architecture import PICTURE, main


def test_the_picture_is_that_of_the_stages(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    PICTURE.unlink()
    main()
    assert PICTURE.read_bytes() == (ROOT / PICTURE).read_bytes(), "run: python -m workflows.architecture"
