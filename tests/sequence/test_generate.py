"""Texts are drawn token by token: the same for one seed, wherever the solves begin."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_sequence import save
from deq_sequence.cli import main
from deq_sequence.commands.generate import show, stopping
from deq_sequence.data.vocabulary import learn
from deq_sequence.demo.generate import Drawn, generate
from deq_sequence.demo.incremental_decoder import IncrementalDecoder
from deq_sequence.demo.sampling import Sampling
from deq_sequence.initialisation import Initialisation, InitialStates
from deq_sequence.models.reader import Reader

CHARACTERS = learn("characters", ["to be, or not to be\n"])
STARTS: tuple[Initialisation, ...] = ("cold", "previous", "token")


def drawn(start: Initialisation = "token", seed: int = 0, tokens: int = 25, prompt: int = 14) -> list[Drawn]:
    model = small(memory=6, solver=deq.Anderson(), stop=deq.Stop(100, tol=1e-9))
    first = some_tokens(batch=1, length=prompt)[0]
    return list(islice(generate(Reader(model), first, Sampling(top_p=0.9), seed=seed, start=start), tokens))


@pytest.mark.parametrize("start", STARTS)
def test_a_seed_gives_one_text_wherever_solves_begin(start: Initialisation) -> None:
    text = [one.token for one in drawn(start)]
    assert text == [one.token for one in drawn("cold")]
    assert text != [one.token for one in drawn(start, seed=1)]


def test_a_prompt_longer_than_the_context_is_read_whole() -> None:
    model = small(memory=6, solver=deq.Anderson(), stop=deq.Stop(100, tol=1e-10))
    tokens = some_tokens(batch=1, length=14)
    memory = None
    with torch.no_grad():
        for piece in (tokens[:, :6], tokens[:, 6:12]):
            memory = model(piece, memory).memory
        log_probs = model(tokens[:, 12:], memory).log_probs
    (one,) = drawn(tokens=1)
    assert one.log_prob == pytest.approx(float(log_probs[0, -1, one.token]), abs=1e-7)


def test_the_probability_of_the_text_is_the_models() -> None:
    model = small(memory=50, solver=deq.Anderson(), stop=deq.Stop(100, tol=1e-10))
    prompt = some_tokens(batch=1, length=5)[0]
    found = list(islice(generate(Reader(model), prompt, Sampling(temperature=0.5)), 8))
    text = torch.cat([prompt, torch.tensor([one.token for one in found])])[None]
    with torch.no_grad():
        losses = model(text[:, :-1], targets=text[:, 1:]).losses[0, 4:]
    torch.testing.assert_close(torch.tensor([-one.log_prob for one in found]).double(), losses, rtol=0, atol=1e-6)


def test_an_unrolled_network_begins_each_position_at_zeros_as_it_was_trained() -> None:
    model = small(steps=3, memory=50)
    prompt = some_tokens(batch=1, length=5)[0]
    found = list(islice(generate(Reader(model), prompt, Sampling()), 8))
    with torch.no_grad():
        output = model(prompt[None])
        for one in found:
            assert one.log_prob == pytest.approx(float(output.log_probs[0, -1, one.token]), abs=1e-9)
            output = model(torch.tensor([[one.token]]), output.memory)
    with pytest.raises(ValueError, match="start: an unrolled network begins at zeros, cold, got token"):
        next(generate(Reader(model), prompt, Sampling(), start="token"))


def test_a_repeated_text_is_solved_in_fewer_evaluations_from_the_same_token() -> None:
    model = small(memory=30, solver=deq.Anderson(), stop=deq.Stop(100, tol=1e-6))
    tokens = some_tokens(batch=1, length=8).repeat(1, 4)
    evaluations = {}
    for kind in ("cold", "token"):
        reader, starts, past, evaluations[kind] = Reader(model), InitialStates(kind), None, 0
        for token in tokens.split(1, dim=1):
            reading = reader.read(token, past, start=starts.begin(token))
            past = reading.past
            starts.see(token, reading.solution.value)
            evaluations[kind] += reading.solution.nfe
    assert evaluations["token"] < evaluations["cold"]


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="T at least 1"):
        next(generate(Reader(small()), torch.zeros(0, dtype=torch.long), Sampling()))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = small(vocabulary=len(CHARACTERS)).float()
    save(tmp_path / "model.safetensors", model, CHARACTERS)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """What the command prints: the text, and what it took."""
    main(["generate", *arguments])
    return tuple(capsys.readouterr())  # pyright: ignore[reportReturnType]  two of them


def test_the_command_goes_on_with_the_prompt(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--checkpoint", str(checkpoint), "--length", "30", "--temperature", "1.0", "--top-k", "5"]
    text, took = run(capsys, "--prompt", "or not to", *options)
    assert text.startswith("or not to")
    assert len(text) == len("or not to") + 30 + 1
    assert "30 tokens" in took
    assert "evaluations per token" in took
    assert run(capsys, "--prompt", "or not to", *options)[0] == text
    assert run(capsys, "--prompt", "or not to", *options, "--seed", "1")[0] != text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "to be? ☃"], r"vocabulary of 10 tokens lacks '\?', '☃'"),
        (["--prompt", "to", "--top-p", "2"], "top_p must be above 0 and at most 1, got 2"),
        (["--prompt", "to", "--temperature", "-1"], "temperature must be a number of at least 0"),
        (["--prompt", "to", "--length", "0"], "length: expected at least 1"),
        (["--prompt", "to", "--context", "0"], "context must be at least 1 position"),
        (["--prompt", "to", "--steps", "0"], "max_steps"),
        (["--prompt", "to", "--device", "abacus"], "device: expected auto, cpu"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(checkpoint: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        main(["generate", "--checkpoint", str(checkpoint), *arguments])


def test_steps_of_an_unrolled_network_are_its_depth_and_a_tolerance_is_refused() -> None:
    tokens = some_tokens()
    deeper = stopping(small(steps=3), 5, None)
    torch.testing.assert_close(deeper(tokens).log_probs, small(steps=5)(tokens).log_probs)
    with pytest.raises(ValueError, match=r"tolerance: an unrolled network has no fixed point; --steps is its depth"):
        stopping(small(steps=3), None, 1e-3)


def test_a_checkpoint_without_vocabulary_says_so(checkpoint: Path) -> None:
    (checkpoint / "vocabulary.json").unlink()
    with pytest.raises(SystemExit, match=r"vocabulary\.json: no such file.*`deq-sequence train` writes it"):
        main(["generate", "--checkpoint", str(checkpoint), "--prompt", "to"])


def test_an_interrupted_text_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted():
        yield from drawn(tokens=3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show("to", interrupted(), IncrementalDecoder(learn("byte_pairs", ["to be"], 260)))
    text, took = capsys.readouterr()
    assert text.startswith("to")
    assert text.endswith("\n")
    assert "3 tokens" in took
