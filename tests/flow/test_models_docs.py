"""docs/checkpoints.md tells the truth: its names exist, its table is that of the benchmark."""

import re
from pathlib import Path

from benchmarks.core.pages import read_table
from benchmarks.flow.correlation_memory import SIZES, gigabytes, volume_entries

from deq_flow import NAMES
from deq_flow.models.build import WEIGHTLESS
from deq_flow.models.lookup.correlation import VOLUME_LIMIT

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()


def test_the_names_it_gives_are_networks() -> None:
    official = PAGE.split("| official file | loads as |")[1].split("\n\n")[0]
    named = re.findall(r"\| `([^`]+)` \|$", official, flags=re.MULTILINE)
    assert len(named) == len(official.strip().splitlines()) - 1
    assert set(named) <= set(NAMES)


def test_every_override_that_needs_no_weights_is_listed() -> None:
    listed = set(re.findall(r"`(\w+)`", PAGE.split("| override | of | meaning |")[1].split("\n\n")[0]))
    assert listed >= WEIGHTLESS
    assert {"solver", "stop", "adjoint", "eval_stop", "steps", "eval_steps", "returned"} <= listed


def test_the_table_of_memory_is_current_and_a_1080p_pair_fits_in_8_gigabytes() -> None:
    table = read_table(PAGE, "correlation")
    assert table.keys() == SIZES.keys()
    for name, size in SIZES.items():
        volume, *peaks, chosen = table[name]
        assert volume == gigabytes(4 * volume_entries(*size))
        assert chosen == ("on-the-fly" if volume_entries(*size) > VOLUME_LIMIT else "all-pairs")
        assert len(peaks) == 4
    largest = float(table["1080x1920"][2].removesuffix(" GB"))
    assert 0 < largest < 8
