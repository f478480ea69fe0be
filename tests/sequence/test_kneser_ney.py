"""Kneser-Ney models are distributions, and the ones that counting by hand gives."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from deq_sequence.baselines.kneser_ney import KneserNey


def text(length: int = 400, vocabulary: int = 5, seed: int = 0) -> np.ndarray:
    """Tokens of unequal frequency, the last of the vocabulary never among them."""
    return np.random.default_rng(seed).binomial(vocabulary - 2, 0.4, length)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one_in_every_context(order: int) -> None:
    model = KneserNey(text(), 5, order)
    contexts = np.array(list(product(range(5), repeat=order - 1)), dtype=int).reshape(5 ** (order - 1), order - 1)
    total = sum(model.probabilities(np.column_stack([contexts, np.full(len(contexts), token)])) for token in range(5))
    np.testing.assert_allclose(total, 1, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_token_that_never_came_has_a_probability_also_where_nothing_came_once(order: int) -> None:
    model = KneserNey(np.array([0, 1, 2] * 50), 5, order)
    assert np.isfinite(model.losses(np.array([0, 1, 4, 0, 3]))).all()


def test_a_bigram_model_by_hand() -> None:
    # a b a b a c b b a, so: ab 2, ba 3, ac 1, cb 1, bb 1, after a: 3 of 2 kinds, after b: 4 of 2, after c: 1 of 1.
    tokens = np.array([0, 1, 0, 1, 0, 2, 1, 1, 0])
    model = KneserNey(tokens, 4, 2)
    # Counts of 1: ac, cb, bb; of 2: ab. Unigrams by kinds of tokens before: a 1 (b), b 3 (a, c, b), c 1 (a).
    discount, lower = 3 / (3 + 2 * 1), 2 / (2 + 2 * 0)
    unigram = [(count - lower if count > lower else 0) / 5 + lower * 3 / 5 / 4 for count in (1, 3, 1, 0)]
    expected = {
        (0, 1): (2 - discount) / 3 + discount * 2 / 3 * unigram[1],
        (0, 3): discount * 2 / 3 * unigram[3],
        (1, 0): (3 - discount) / 4 + discount * 2 / 4 * unigram[0],
        (2, 1): (1 - discount) / 1 + discount * 1 / 1 * unigram[1],
        (3, 1): unigram[1],  # a context that never came
    }
    found = model.probabilities(np.array(list(expected)))
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12)


def test_a_trigram_model_is_its_formula() -> None:
    tokens, vocabulary = text(), 5
    trigrams = Counter(tuple(tokens[place : place + 3].tolist()) for place in range(len(tokens) - 2))
    bigrams = Counter(gram[1:] for gram in trigrams)
    runs = {3: trigrams, 2: bigrams, 1: Counter(gram[1:] for gram in bigrams)}

    def probability(gram: tuple[int, ...]) -> float:
        if not gram:
            return 1 / vocabulary
        counts = runs[len(gram)]
        once, twice = (sum(count == n for count in counts.values()) for n in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        following = [count for other, count in counts.items() if other[:-1] == gram[:-1]]
        if not following:
            return probability(gram[1:])
        kept = max(counts[gram] - discount, 0) / sum(following)
        return kept + discount * len(following) / sum(following) * probability(gram[1:])

    grams = list(product(range(5), repeat=3))
    found = KneserNey(tokens, vocabulary, 3).probabilities(np.array(grams))
    np.testing.assert_allclose(found, [probability(gram) for gram in grams], rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_token_but_the_first_is_scored_by_those_before(order: int) -> None:
    model, tokens = KneserNey(text(), 5, order), text(20, seed=1)
    losses = model.losses(tokens)
    assert losses.shape == (19,)
    for place in range(1, 20):
        gram = tokens[max(0, place - order + 1) : place + 1]
        assert losses[place - 1] == pytest.approx(-np.log(model.probabilities(gram[None])[0]))


def test_an_order_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="63 bits"):
        KneserNey(text(), 267_735, 4)
    with pytest.raises(ValueError, match="at least 3 tokens"):
        KneserNey(text(2), 5, 3)
