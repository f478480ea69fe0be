"""What was measured before a value that is not finite, or a damaged file, is kept beside the result."""

from pathlib import Path

import pytest

from deq_core.experiment.errors import FileFormatError, NonFiniteError, UserError
from deq_core.experiment.rescue import rescued, tables


def measure(out: Path, error: type[UserError] = NonFiniteError) -> None:
    with rescued(out, tables({"samples": [{"epe": 1.0}]})):
        raise error("the flow of pair 2 is not finite")


@pytest.mark.parametrize("error", [NonFiniteError, FileFormatError])
def test_what_was_measured_is_kept_and_named(tmp_path: Path, error: type[UserError]) -> None:
    for _ in range(2):
        with pytest.raises(error, match=r"pair 2 is not finite; .* is in .*out-partial$"):
            measure(tmp_path / "out", error)
        assert (tmp_path / "out-partial" / "samples.csv").read_text() == "epe\n1.0\n"


def test_a_folder_of_the_users_stays_and_the_fault_is_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "out-partial").mkdir()
    (tmp_path / "out-partial" / "samples.csv").write_text("mine")
    with pytest.raises(NonFiniteError, match=r"pair 2 is not finite; .* lost: cannot write .*: it holds samples\.csv"):
        measure(tmp_path / "out")
    assert (tmp_path / "out-partial" / "samples.csv").read_text() == "mine"
