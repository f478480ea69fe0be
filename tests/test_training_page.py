"""docs/training.md tells the truth: its commands do what it says, one after the other, in a folder of their own."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from tests.flow.test_fine_tune import write_pairs
from tests.vision import test_own_boxes as boxes
from tests.vision import test_own_masks as masks
from tests.vision.test_own import picture

from deq_core.experiment.data.images import read_image
from deq_core.experiment.media import video_file
from deq_core.experiment.tables import read_rows

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
SHORT = {"flow": "--batch-size 2 --crop 32 32", "vision": "--batch-size 2", "sequence": "--batch-size 4"}
"""What makes the commands of each program quick, besides a few steps."""
SEEN = {"classes": ["apple", "leaf"], "masks": ["soil", "leaf"], "boxes": ["leaf", "apple"]}
"""What the networks of pictures of one's own know, by their names on the page."""


def block(kind: str) -> str:
    """All that the page has in blocks of a kind."""
    return "".join(re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


COMMANDS = block("sh").splitlines()


@pytest.mark.slow
def test_the_commands_of_the_page_train_and_use_what_was_trained(
    tracking_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(Path("pairs"), 5)
    for number, name in enumerate(("apple", "leaf") * 3):
        picture(Path("pictures", name, f"{number}.png"), (200, 40 * number, 90), number)
    new = picture(Path("new/one.png"), (200, 40, 90), 9)
    video_file.write(Path("walk.mp4"), [read_image(new)] * 2)
    masks.write(
        Path("plants"),
        [str(number) for number in range(4)],
        Image.fromarray(masks.CLASSES.astype("uint8")),
        block("yaml"),
    )
    boxes.write(Path("fruit"), [f"{number}.png" for number in range(6)])
    Path("story.txt").write_text("".join(f"It was the {number}th time that it rained.\n" for number in range(80)))
    Path("other.txt").write_text("".join(f"It was the {number}th time that the sun shone.\n" for number in range(80)))
    trained = set()
    for command in COMMANDS:
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
    assert len(trained) == 7
    assert {path.name for path in Path("masks-seen").iterdir()} >= {"one.png.png", "masks", "labels.json"}
    assert Path("walk-json/boxes/000002.json").is_file()
    heads = {name: json.loads(Path(name, "config.json").read_text())["architecture"]["head"] for name in SEEN}
    assert {name: head["names"] for name, head in heads.items()} == SEEN
    assert (heads["classes"]["crop"], heads["masks"]["ids"], heads["boxes"]["ids"]) == ([54, 48], [0, 1], [2, 4])
    (entry,) = json.loads(Path("classes-seen/demo.json").read_text())["images"]
    assert sorted(each["class"] for each in entry["classes"]) == SEEN["classes"]
    for name in SEEN:
        measured, told = (json.loads(Path(out, "metrics.json").read_text()) for out in (f"{name}-measured", name))
        assert measured["loss"] == pytest.approx(told["val_loss"], rel=1e-4), "what training held out, as it saw it"
        assert [row["class"] for row in read_rows(Path(f"{name}-measured/classes.csv"))] == SEEN[name]
    assert json.loads(Path("language-measured/metrics.json").read_text())["perplexity"] > 1
    assert all(json.loads(Path(out, "metrics.json").read_text())["step"] == 2 for out in trained)
