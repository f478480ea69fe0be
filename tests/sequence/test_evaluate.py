"""Perplexity is that of every token once, with memory; a sweep is what shorter solves would have said."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.jobs import done
from tests.sequence.recipes import LAYER, MEASURE, MODEL, TEXT, UNROLLED
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_sequence import DEQTransformer, build, save
from deq_sequence.baselines.kneser_ney import KneserNey
from deq_sequence.data import tokens as stored
from deq_sequence.data.corpora import CorpusError
from deq_sequence.data.vocabulary import Characters
from deq_sequence.evaluate import Sweep, measure, read
from deq_sequence.networks import load_for
from deq_sequence.reports.perplexity import sweep_table
from deq_sequence.studies.perplexity import EVALUATE, ngrams

EXACT = deq.Stop(max_steps=200, tol=1e-12)
TEXT_OF_TOKENS = some_tokens(1, 61)[0]


@pytest.mark.parametrize(("length", "stride"), [(60, None), (7, None), (7, 3), (1, None)])
def test_perplexity_does_not_depend_on_how_a_text_is_cut_where_memory_reaches(length: int, stride: int | None) -> None:
    model = small(memory=100, stop=EXACT)
    with torch.no_grad():
        whole = model(TEXT_OF_TOKENS[None, :-1], targets=TEXT_OF_TOKENS[None, 1:]).losses
    found = measure(model, TEXT_OF_TOKENS, length=length, stride=stride).score
    assert found.tokens == 60
    assert found.loss == pytest.approx(float(whole.mean()), rel=1e-8)
    assert found.perplexity == pytest.approx(math.exp(found.loss))


def test_rows_are_read_side_by_side_and_each_begins_without_memory() -> None:
    model = small(memory=4)
    together = measure(model, TEXT_OF_TOKENS, length=5, batch_size=3).score
    alone = [measure(model, TEXT_OF_TOKENS[row * 20 : row * 20 + 20], length=5).score for row in range(3)]
    assert together.tokens == sum(one.tokens for one in alone) == 57
    assert together.nats == pytest.approx(sum(one.nats for one in alone), rel=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_windows_that_read_tokens_again_have_as_much_memory_as_others(stride: int) -> None:
    model = small(memory=4)
    for window, memory, _ in read(model, TEXT_OF_TOKENS, length=5, batch_size=1, stride=stride):
        assert (0 if memory is None else len(memory)) == min(window.begin, 4)


def test_memory_helps_itself_to_what_was_read() -> None:
    model = small(memory=6, stop=EXACT)
    without = small(memory=0, stop=EXACT)
    assert measure(model, TEXT_OF_TOKENS, length=5).score.loss != measure(without, TEXT_OF_TOKENS, length=5).score.loss


@pytest.mark.parametrize("solver", [deq.FixedPointIteration(), deq.Anderson(window=3), deq.Broyden()])
def test_a_point_of_the_sweep_is_a_solve_of_so_many_evaluations(solver: deq.Solver) -> None:
    model = small(memory=6, stop=EXACT)
    sweep = Sweep(solvers={"it": solver}, evaluations=5)
    points = measure(model, TEXT_OF_TOKENS[:6], length=5, sweep=sweep).sweep["it"]
    for evaluations, point in enumerate(points, start=1):
        shorter = small(memory=6, solver=solver, stop=deq.Stop(max_steps=evaluations, tol=None))
        expected = measure(shorter, TEXT_OF_TOKENS[:6], length=5).score
        assert point.loss == pytest.approx(expected.loss, rel=1e-9), evaluations
        assert point.residual == pytest.approx(expected.residual, rel=1e-6), evaluations


def test_an_unrolled_model_is_swept_over_its_depth_whatever_the_solvers() -> None:
    model = small(memory=6, steps=3)
    found = measure(model, TEXT_OF_TOKENS, length=60, sweep=Sweep(solvers={}, evaluations=5))
    assert list(found.sweep) == ["unrolled"]
    assert found.sweep["unrolled"][2].loss == pytest.approx(found.score.loss, rel=1e-12)
    assert found.sweep["unrolled"][2].residual == pytest.approx(found.score.residual, rel=1e-12)


def test_a_sweep_may_read_less_than_the_text() -> None:
    sweep = Sweep(solvers={"plain": deq.FixedPointIteration()}, evaluations=1, tokens=11)
    found = measure(small(), TEXT_OF_TOKENS, length=5, sweep=sweep)
    assert (found.score.tokens, found.sweep["plain"][0].tokens) == (60, 15)


def test_a_table_of_sweeps_is_empty_beyond_the_shorter_one() -> None:
    points = {str(step): {"perplexity": 9.0 - step, "residual": 0.5} for step in (1, 2, 3, 4)}
    table = sweep_table({"sweeps": {"long": {"plain": points}, "short": {"plain": {"1": points["1"]}}}})
    assert "| long | plain | perplexity | 8.00 | 7.00 | 6.00 | 5.00 |" in table
    assert "| short | plain | perplexity | 8.00 |  |  |  |" in table


def test_bits_of_single_characters_are_the_loss_to_base_two(tmp_path: Path, data: Path) -> None:
    save(tmp_path / "model.safetensors", build("mini", vocabulary=len(vocabulary(data))))
    values, _ = done(EVALUATE, MEASURE, data=data, model=tmp_path)
    assert values["characters"] == values["tokens"] == 4 * 74
    assert values["bits_per_character"] == pytest.approx(values["loss"] / math.log(2))
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))


def test_counting_is_measured_on_the_tokens_that_a_model_predicts(data: Path) -> None:
    text = stored.read(data / "characters")
    tokens = text.texts["test"].numpy()
    losses = KneserNey(text.texts["train"].numpy(), len(text.vocabulary), 2).losses(tokens)  # of token 1, 2, ...
    predicted = [place for place in range(4 * 75) if place % 75]
    expected = float(np.mean([losses[place - 1] for place in predicted]))
    assert ngrams(text, 2, batch_size=4, split="test")["loss"] == pytest.approx(expected)


def test_a_model_of_another_vocabulary_is_refused(tmp_path: Path, data: Path) -> None:
    save(tmp_path / "model.safetensors", build("mini", vocabulary=17))
    with pytest.raises(CorpusError, match=r"made for other tokens \(17 different ones\) than .* characters \(96\)"):
        load_for(tmp_path, vocabulary(data), "characters")
    other = Characters("".join(reversed(vocabulary(data).characters)))
    save(tmp_path / "model.safetensors", build("mini", vocabulary=96), other)
    with pytest.raises(CorpusError, match="made for other tokens"):
        load_for(tmp_path, vocabulary(data), "characters")


def vocabulary(data: Path) -> Characters:
    found = stored.read(data / "characters").vocabulary
    assert isinstance(found, Characters)
    return found


def test_memory_and_stop_of_the_measurement_replace_the_model_s(tmp_path: Path, data: Path) -> None:
    save(tmp_path / "model.safetensors", DEQTransformer(MODEL.architecture(96), UNROLLED.equilibrium()))
    stop = replace(LAYER.stop, max_steps=9).build()
    found = load_for(tmp_path, vocabulary(data), "characters", memory=3, eval_stop=stop)
    assert found.equilibrium == replace(UNROLLED.equilibrium(), memory=3, eval_stop=stop)


def test_a_limited_text_keeps_its_beginning_and_its_vocabulary(data: Path) -> None:
    text = stored.read(data / "characters")
    assert TEXT.limit is not None
    assert {len(part) for part in text.texts.values()} == {TEXT.limit}
    assert len(text.vocabulary) == 96
