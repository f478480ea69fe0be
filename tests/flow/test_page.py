"""docs/deq-flow.md tells the truth: its table names every command."""

import re
from pathlib import Path

from deq_flow.cli import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "deq-flow.md").read_text()


def test_its_table_names_every_command_and_no_other() -> None:
    """A command has further rows for other uses alone, which show their arguments."""
    rows = PAGE.split("| command | what it does |\n")[1].split("\n\n")[0].splitlines()[1:]
    shown = [use for row in rows for use in re.findall(r"`(?:deq-flow )?([^`]+)`", row.split(" | ")[0])]
    named = [use.split()[0] for use in shown]
    assert set(named) == {name for names in COMMANDS.values() for name in names}
    assert [use for use in shown if named.count(use) > 1 or shown.count(use) > 1] == []
