"""`deq-sequence evaluate`: what it writes is what the network says of the text, and what it cannot read is named."""

import json
import math
from pathlib import Path

import pytest
import torch

import deq_core as deq
from deq_core.experiment.tables import numbers, read_rows
from deq_sequence import build, load, load_vocabulary, save
from deq_sequence.cli import main
from deq_sequence.data import tokens as stored
from deq_sequence.data.vocabulary import Characters, Words
from deq_sequence.evaluate import measure

TEXT = "It rained, and rained.\nThe rain ended; it is dry.\n"
MEMORY = 6


@pytest.fixture
def folder(tracking_database: Path) -> Path:
    """A working directory with a text, and networks of its characters and of its words."""
    torch.manual_seed(0)
    for name, vocabulary in (("net", Characters.learn([TEXT])), ("words", Words.learn([TEXT]))):
        model = build("mini", vocabulary=len(vocabulary), memory=MEMORY, stop=deq.Stop(max_steps=4, tol=None))
        save(Path(name, "model.safetensors"), model, vocabulary)
    Path("text.txt").write_text(TEXT)
    return tracking_database.parent


@pytest.mark.parametrize("name", ["net", "words"])
def test_a_file_has_the_perplexity_that_is_read_off_the_log_probabilities(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", name, "--data", "text.txt", "--out", "out"])
    model, memory = load(name), None
    tokens = torch.from_numpy(load_vocabulary(name, model).encode(TEXT.splitlines(keepends=True))).long()
    said, residuals = [], []
    for begin in range(0, len(tokens) - 1, MEMORY):
        targets = tokens[begin + 1 : begin + MEMORY + 1]
        with torch.no_grad():
            output = model(tokens[begin : begin + len(targets)][None], memory)
        said += [float(output.log_probs[0, place, target]) for place, target in enumerate(targets)]
        residuals.append(float(output.solution.residual))
        memory = output.memory
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert metrics["tokens"] == len(said) == len(tokens) - 1
    assert metrics["perplexity"] == pytest.approx(math.exp(-sum(said) / len(said)), rel=1e-5)
    characters = len(TEXT) - 1 if name == "net" else len(" rained, and rained.\n The rain ended; it is dry.\n")
    assert metrics["characters"] == characters
    assert metrics["bits_per_character"] == pytest.approx(-sum(said) / math.log(2) / characters, rel=1e-5)
    assert metrics["residual"] == pytest.approx(sum(residuals) / len(residuals), rel=1e-4)
    assert metrics["steps"] == 4
    rows = read_rows(Path("out/steps.csv"))
    assert numbers(rows, "step") == [1, 2, 3, 4]
    assert json.loads(capsys.readouterr().out)["perplexity"] == pytest.approx(metrics["perplexity"])


def test_a_prepared_text_is_measured_by_its_split_and_read_in_rows(folder: Path, data: Path) -> None:
    Path("data").symlink_to(data)
    text = stored.read(Path("data/characters"))
    save(Path("own/model.safetensors"), build("mini", vocabulary=len(text.vocabulary)), text.vocabulary)
    options = ["--text", "characters", "--split", "test", "--length", "8", "--batch-size", "3"]
    main(["evaluate", "own", "--data", "data", "--out", "out", *options])
    expected = measure(load("own"), text.texts["test"], length=8, batch_size=3).score
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert (metrics["tokens"], metrics["loss"]) == (expected.tokens, pytest.approx(expected.loss))


def test_what_was_measured_before_a_number_that_is_none_is_kept(folder: Path) -> None:
    vocabulary = Characters.learn([TEXT])
    model = build("mini", vocabulary=len(vocabulary), memory=MEMORY, tied_tables=False)
    with torch.no_grad():
        model.embedding.tables[0].get_parameter("weight")[vocabulary.encode(["T"])[0]] = torch.nan
    save(Path("broken/model.safetensors"), model, vocabulary)
    with pytest.raises(SystemExit, match=r"what was measured before it is in out-partial$"):
        main(["evaluate", "broken", "--data", "text.txt", "--out", "out"])
    (score,) = read_rows(Path("out-partial/score.csv"))
    assert score["tokens"] == TEXT.index("T") // MEMORY * MEMORY
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("net", "--data", "tetx.txt"), "tetx.txt: no such file or folder; name a text file"),
        (
            ("net", "--data", "snow.txt"),
            r"snow.txt: .* line 2 has '☃', .* characters .* choose a network of byte pairs",
        ),
        (("words", "--data", "snow.txt"), r"snow.txt: .* line 2 has '☃', .* words .* choose a network of byte pairs"),
        (("net", "--data", "short.txt"), "short.txt: 6 tokens are too few for 1 rows of a segment of 6 tokens"),
        (("net", "--data", "text.txt", "--length", "50"), "50 tokens are too few for 1 rows of a segment of 50"),
        (("net", "--data", "text.txt", "--batch-size", "8"), "50 tokens are too few for 8 rows"),
        (("net", "--data", "text.txt", "--length", "0"), "length and batch_size of at least 1, got 0 and 1"),
        (("net", "--data", "text.txt", "--split", "test"), "text, split: only for a folder of prepared texts"),
        (("net", "--data", "data", "--text", "characters"), r"net: made for other tokens"),
        (("net", "--data", "data"), r"data/text/vocabulary.json: no such vocabulary"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line_and_nothing_is_written(
    folder: Path, data: Path, arguments: tuple[str, ...], message: str
) -> None:
    Path("data").symlink_to(data)
    Path("snow.txt").write_text(TEXT.replace("The", "☃"))
    Path("short.txt").write_text(TEXT[:6])
    with pytest.raises(SystemExit, match=message):
        main(["evaluate", *arguments, "--out", "out"])
    assert not list(Path().glob("out*"))
