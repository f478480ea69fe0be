"""The checkpoint that comes with the package is what its card and its recipe say, and generates text."""

import re

import pytest

import deq_sequence
from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_sequence import SHIPPED
from deq_sequence.cli import main
from deq_sequence.data.texts import prepare
from deq_sequence.data.tokens import Tokens
from deq_sequence.evaluate import measure
from deq_sequence.networks import stored_form
from deq_sequence.studies.section import Sequence

FOLDER = SHIPPED["default"]
CARD = (FOLDER / "CARD.md").read_text()
RECIPE = config.load(Sequence, FOLDER / "recipe.yaml", "shipped")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """The recipe's text, with a vocabulary learnt anew."""
    return prepare(tmp_path_factory.mktemp("data") / "byte-pairs", RECIPE.texts["byte-pairs"])


def test_the_recipe_beside_it_makes_such_a_network_and_its_vocabulary(text: Tokens) -> None:
    model = deq_sequence.load("default")
    recipe = RECIPE.model["default"]
    assert stored_form(model).architecture == recipe.architecture(len(text.vocabulary))
    assert model.equilibrium == recipe.equilibrium()
    assert deq_sequence.load_vocabulary("default", model).state() == text.vocabulary.state()


def test_it_has_the_perplexity_of_its_card(text: Tokens) -> None:
    told = re.search(r"^\| test \| ([\d.]+) \|", CARD, re.MULTILINE)
    assert told is not None
    protocol = RECIPE.evaluate["default"]
    model = deq_sequence.load("default", memory=protocol.memory)
    found = measure(model, text.texts["test"], length=protocol.length, batch_size=protocol.batch_size).score
    assert found.perplexity == pytest.approx(float(told[1]), rel=1e-3)


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2e6


def test_a_command_without_a_checkpoint_generates_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for options in ([], ["--checkpoint", "default"], ["--seed", "1"]):
        main(["generate", "--prompt", "The database ", "--length", "12", *options])
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith("The database ")
    assert texts[0] == texts[1] != texts[2]


def test_a_misspelt_name_is_answered_with_the_shipped_one() -> None:
    with pytest.raises(CheckpointError, match=r"defualt: no such checkpoint.* shipped \(default\)"):
        deq_sequence.load("defualt")
