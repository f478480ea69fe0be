"""docs/training.md tells the truth: its commands do what it says, one after the other, in a folder of their own."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from tests.flow.test_fine_tune import write_pairs
from tests.vision.test_own import picture

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
SHORT = {"flow": "--batch-size 2 --crop 32 32", "vision": "--batch-size 2", "sequence": "--batch-size 4"}
"""What makes the commands of each program quick, besides a few steps."""


@pytest.mark.slow
def test_the_commands_of_the_page_train_and_use_what_was_trained(
    tracking_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(Path("pairs"), 5)
    for number, name in enumerate(("apple", "leaf") * 3):
        picture(Path("pictures", name, f"{number}.png"), (200, 40 * number, 90), number)
    picture(Path("new/one.png"), (200, 40, 90), 9)
    Path("story.txt").write_text("".join(f"It was the {number}th time that it rained.\n" for number in range(80)))
    trained = set()
    for command in "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)).splitlines():
        command, _, file = command.partition(" > ")
        program, *words = shlex.split(command)
        kind = program.removeprefix("deq-")
        if words[0] == "train" and not file:
            words += [*SHORT[kind].split(), "--steps", "2", "--max-steps", "2"]
            trained.add(words[words.index("--out") + 1])
        importlib.import_module(f"deq_{kind}.cli").main(words)
        said = capsys.readouterr().out
        if file:
            Path(file).write_text(said)
        if words[0] == "generate":
            assert said.startswith("It was")
    assert len(trained) == 5
    assert all(json.loads(Path(out, "metrics.json").read_text())["step"] == 2 for out in trained)
