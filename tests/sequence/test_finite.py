"""What is no number is no prediction: it ends a command in one sentence, and what was measured before it is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.sequence.recipes import MEASURE, PROFILE
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_core.experiment.config import plain
from deq_core.experiment.config.delta import Rule, Variant
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.files import write_json
from deq_core.experiment.tables import numbers, read_rows
from deq_sequence import DEQTransformer, save
from deq_sequence.cli import main
from deq_sequence.data import tokens as stored
from deq_sequence.demo.generate import generate
from deq_sequence.demo.sampling import Sampling
from deq_sequence.evaluate import Measured, Sweep, measure
from deq_sequence.finite import perplexity, require_finite
from deq_sequence.models.reader import Reader
from deq_sequence.studies.delta import Delta
from deq_sequence.train import validation

TEXT_OF_TOKENS = some_tokens(1, 60)[0]


def cell(model: DEQTransformer, value: float) -> None:
    """As of a training that diverged: every solve is of numbers that are none."""
    model.cell.get_parameter("contract.parametrizations.weight.original1")[0] = value


def token(model: DEQTransformer, value: float) -> None:
    """One token alone is broken, the one that the text above has sixth."""
    model.embedding.tables[0].get_parameter("weight")[TEXT_OF_TOKENS[5]] = value


@torch.no_grad()
def broken(how: Callable[[DEQTransformer, float], None], value: float = torch.nan, **options: Any) -> DEQTransformer:
    model = small(**options)
    how(model, value)
    return model


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("how", "said"), [(cell, "no state of the solve of tokens 1 to 5 is finite"), (token, "tokens 1 to 5|token [1-6]")]
)
def test_no_text_has_the_perplexity_of_a_network_that_is_not_finite(
    how: Callable[[DEQTransformer, float], None], said: str, value: float
) -> None:
    with pytest.raises(NonFiniteError, match=said):
        measure(broken(how, value), TEXT_OF_TOKENS, length=5)


@pytest.mark.parametrize(("batch_size", "said"), [(1, "token 45 is"), (2, "token 13 of row 2 is")])
def test_the_first_token_is_named_that_a_network_without_a_solve_fails_at(batch_size: int, said: str) -> None:
    """That of a segment: attention gives what comes later no weight, and no weight of what is no number is none."""
    others = TEXT_OF_TOKENS[TEXT_OF_TOKENS.ne(TEXT_OF_TOKENS[5])]
    text = torch.cat([others, others])[:60].index_fill(0, torch.tensor([45, 50]), int(TEXT_OF_TOKENS[5]))
    with pytest.raises(NonFiniteError, match=f"^the prediction after {said} not finite"):
        measure(broken(token, steps=3, tied_tables=False), text, length=4, batch_size=batch_size)


def test_what_was_measured_before_is_there_after_the_error() -> None:
    others = TEXT_OF_TOKENS[TEXT_OF_TOKENS.ne(TEXT_OF_TOKENS[5])]
    text = torch.cat([others, TEXT_OF_TOKENS[5:6], others])
    found = Measured()
    sweep = Sweep(solvers={"it": deq.FixedPointIteration()}, evaluations=3)
    model = broken(token, steps=3, tied_tables=False)
    with pytest.raises(NonFiniteError):
        measure(model, text, length=5, sweep=sweep, found=found)
    before = measure(model, text[: found.score.tokens + 1], length=5, sweep=sweep)
    assert 40 < found.score.tokens < len(text) // 2 + 1
    assert (found.score, found.sweep) == (before.score, before.sweep)


def test_the_first_prediction_that_is_none_is_the_one_named() -> None:
    values, residual = torch.zeros(2, 4, 3), torch.zeros(2)
    require_finite(values, residual, begin=7)
    values[1, 2, 1] = values[1, 3, 0] = -torch.inf
    with pytest.raises(NonFiniteError, match=r"^the prediction after token 10 of row 2 is not finite"):
        require_finite(values, residual, begin=7)
    residual[0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"^it: no state of the solve of tokens 8 to 11 of row 1 is finite"):
        require_finite(values, residual, begin=7, name="it")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("how", [cell, token])
def test_no_token_is_drawn_from_what_is_no_number(
    how: Callable[[DEQTransformer, float], None], temperature: float
) -> None:
    drawn = generate(Reader(broken(how)), TEXT_OF_TOKENS[:9], Sampling(temperature=temperature))
    with pytest.raises(NonFiniteError, match=r"tokens? [1-9]\b"):
        next(drawn)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=0.1)])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_chances_that_are_no_numbers_are_refused(sampling: Sampling, bad: float) -> None:
    with pytest.raises(NonFiniteError, match="no token can be drawn"):
        sampling.draw(torch.tensor([0.1, bad, 0.2]).log(), torch.Generator())


def test_where_every_token_is_left_out_none_is_drawn() -> None:
    with pytest.raises(NonFiniteError, match="no token can be drawn: the greatest log-probability is -inf"):
        Sampling(temperature=0, never=(0, 1)).probabilities(torch.zeros(2))


def test_a_perplexity_beyond_all_numbers_is_none() -> None:
    with pytest.raises(NonFiniteError, match="a mean loss of 710 nats a token has no finite perplexity"):
        perplexity(710.0)
    assert perplexity(0.0) == 1.0


def test_validation_never_counts_what_is_no_number() -> None:
    recipe = replace(PROFILE.train["deq"], batch_size=2)
    with pytest.raises(NonFiniteError, match="of row 1 is finite"):
        validation(recipe, TEXT_OF_TOKENS)(broken(cell))


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command ends with; it may print nothing else on stderr that looks like a crash."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    message = str(left.value.code)
    assert message.startswith("deq-sequence: ")
    assert "\n" not in message
    capsys.readouterr()
    return message


@pytest.mark.usefixtures("tracking_database")
def test_the_commands_end_in_one_sentence_and_keep_what_they_had(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = stored.read(data / "characters")
    test = text.texts["test"].tolist()
    rare = max(test, key=test.index)  # the last to come
    before = test.index(rare) // MEASURE.length * MEASURE.length
    model = small(vocabulary=len(text.vocabulary), steps=3, tied_tables=False)
    with torch.no_grad():
        model.embedding.tables[0].get_parameter("weight")[rare] = torch.nan
    save(tmp_path / "model" / "model.safetensors", model, text.vocabulary)
    study = Delta(
        text="characters",
        length=8,
        memory=6,
        batch_size=1,
        variants={
            "it": Variant(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=3), rule=Rule(thresholds=(0.1,)))
        },
        steps=(1, 3),
        validation_tokens=9,
    )
    evaluate = {"deq": {**plain(MEASURE), "batch_size": 1}}
    profile = plain(PROFILE) | {"methods": ["deq"], "evaluate": evaluate, "delta": {"deq": plain(study)}}
    write_json(tmp_path / "params.yaml", {"sequence": profile})
    for command in ("evaluate", "delta"):
        options = ("--checkpoint", "model", "--data", data, "--out", f"out/{command}")
        message = said(capsys, "study", command, "method=deq", "seed=0", *options)
        assert "diverged" in message
        assert f"what was measured before it is in out/{command}-partial" in message
        assert not (tmp_path / "out" / command).exists()
    (score,) = read_rows(tmp_path / "out" / "evaluate-partial" / "score.csv")
    assert score["tokens"] == before > 0
    rows = [row for row in read_rows(tmp_path / "out" / "delta-partial" / "sweep.csv") if row["split"] == "test"]
    assert numbers(rows, "tokens")[0] == before
    prompt = text.vocabulary.decode([rare])
    message = said(capsys, "generate", "--prompt", prompt, "--checkpoint", "model")
    assert "the prediction after token 1 is not finite" in message
