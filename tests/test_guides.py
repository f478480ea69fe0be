"""What is shown to be added can be added so: each page is done as it says."""

from pathlib import Path

import pytest
from tests.guides import follow

PAGES = {"adding-a-data-set.md": '"problems"', "adding-a-model.md": "3 passed", "adding-a-study.md": "| digits | 0.3 |"}
"""And what its commands print on the way."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_shows(page: str, tmp_path: Path) -> None:
    assert PAGES[page] in follow(page, tmp_path / "copy")
