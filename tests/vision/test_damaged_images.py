"""The page's table of damaged JPEGs: what it says is what the command measures, and the prose says the same."""

from pathlib import Path

import pytest
from benchmarks.core.pages import read_table
from benchmarks.vision.damaged_images import ENCODINGS, HEADER, NAMES, TABLE, measure, row

from deq_core.experiment import photographs

PAGE = Path(__file__).parents[2] / "docs" / "vision-data.md"


@pytest.mark.parametrize("name", ["quality 75", "progressive"])
def test_cut_off_files_are_found_and_whole_ones_are_not(name: str, tmp_path: Path) -> None:
    jpeg = ENCODINGS[name](photographs.load(NAMES[0]))
    found = measure(jpeg, 3, tmp_path / "image.jpg")
    assert not found.whole
    assert found.damaged["cut off"] == found.damaged["cut off, end marker behind"] == 3
    assert 0 < found.damaged["512 random bytes"] <= 3
    assert row(name, [found, found], 3)[:3] == [name, "100 %", "100 %"]


def test_the_page_says_of_shares_what_its_table_says() -> None:
    page = " ".join(PAGE.read_text().split())
    rows = read_table(PAGE.read_text(), TABLE)
    assert list(rows) == [*ENCODINGS, "all"]
    every = dict(zip(HEADER[1:], rows["all"], strict=True))
    assert every["none"] == f"0 of {len(ENCODINGS) * len(NAMES)}"
    assert f"six photographs in {len(ENCODINGS)} encodings" in page
    random, zeros, few, bit = (every[name] for name in ("512 random bytes", "512 zeros", "16 random bytes", "one bit"))
    assert f"found {random} of the time with 512 random bytes there, {zeros} with 512 zeros, {few} with 16" in page
    assert f"and {bit} with one wrong bit" in page
