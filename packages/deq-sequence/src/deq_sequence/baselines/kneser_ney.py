"""Interpolated Kneser-Ney language models, the n-gram baseline of every trained model."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Level:
    """Counts of the n-grams of one order.

    Attributes:
        grams: sorted codes of the n-grams that occur
        counts: count of each in the text (highest order), or number of distinct tokens before it (lower orders)
        contexts: sorted codes of their first n - 1 tokens
        totals: sum of the counts with each context
        types: number of distinct tokens that follow each context
        discount: amount subtracted from every count: n1 / (n1 + 2 n2), with n1 and n2 the number of counts of 1 and 2
            (Ney, Essen & Kneser, 1994), or 0.5 if n1 is 0
    """

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    types: np.ndarray
    discount: float


class KneserNey:
    """The model p(w | h) = max(c(hw) - D, 0) / c(h) + D N(h) / c(h) p(w | h'), with h' = h without its first token.

    c(h) is the sum of c(hw) over w, N(h) the number of distinct w. Below the highest order, counts are numbers of
    distinct preceding tokens (Kneser & Ney, ICASSP 1995; interpolated: Chen & Goodman, 1999). Below the unigrams is the
    uniform distribution, so every token of the vocabulary has a probability.

    Args:
        tokens: (N,) integers below `vocabulary`, the training text.
        vocabulary: size of the vocabulary.
        order: length of an n-gram, including the predicted token.
    """

    def __init__(self, tokens: np.ndarray, vocabulary: int, order: int) -> None:
        if order < 1 or vocabulary < 1 or order * np.log2(vocabulary) > 63:
            raise ValueError(f"order must be at least 1 and vocabulary ** order fit 63 bits, got {order}, {vocabulary}")
        if len(tokens) < order:
            raise ValueError(f"the text must have at least {order} tokens, got {len(tokens)}")
        self.vocabulary = vocabulary
        self.order = order
        grams, counts = np.unique(self._codes(tokens, order), return_counts=True)
        levels = [_level(grams, counts, vocabulary)]
        for length in range(order - 1, 0, -1):
            grams, counts = np.unique(levels[-1].grams % vocabulary**length, return_counts=True)
            levels.append(_level(grams, counts, vocabulary))
        self.levels = levels[::-1]
        """Levels from unigrams to the highest order."""

    def losses(self, tokens: np.ndarray) -> np.ndarray:
        """-log p, in nats, of each of tokens (N,) given those before, except the first, (N - 1,)."""
        out = np.empty(len(tokens) - 1)
        for last in range(1, min(self.order - 1, len(tokens))):
            out[last - 1] = -np.log(self.probabilities(tokens[None, : last + 1]))[0]
        if len(tokens) >= self.order > 1:
            grams = np.lib.stride_tricks.sliding_window_view(tokens, self.order)
            out[self.order - 2 :] = -np.log(self.probabilities(grams))
        elif self.order == 1:
            out[:] = -np.log(self.probabilities(tokens[1:, None]))
        return out

    def probabilities(self, grams: np.ndarray) -> np.ndarray:
        """p of the last token of each n-gram (N, n) given the others, (N,); n is at most the order."""
        out = np.full(len(grams), 1 / self.vocabulary)
        for length, level in enumerate(self.levels[: grams.shape[1]], start=1):
            codes = self._codes(grams[:, grams.shape[1] - length :].ravel(), length)[::length]
            count = _found(level.grams, level.counts, codes)
            contexts = codes // self.vocabulary
            total = _found(level.contexts, level.totals, contexts)
            types = _found(level.contexts, level.types, contexts)
            seen = total > 0
            lowered = np.maximum(count - level.discount, 0) + level.discount * types * out
            out = np.where(seen, lowered / np.where(seen, total, 1), out)
        return out

    def _codes(self, tokens: np.ndarray, length: int) -> np.ndarray:
        """Encodes each run of `length` tokens as one number."""
        codes = np.zeros(len(tokens) - length + 1, dtype=np.int64)
        for offset in range(length):
            codes = codes * self.vocabulary + tokens[offset : offset + len(codes)]
        return codes


def _level(grams: np.ndarray, counts: np.ndarray, vocabulary: int) -> Level:
    contexts, group, types = np.unique(grams // vocabulary, return_inverse=True, return_counts=True)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.5
    return Level(grams, counts, contexts, np.bincount(group, weights=counts), types, discount)


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values of the wanted keys; 0 for those missing from the sorted keys."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
