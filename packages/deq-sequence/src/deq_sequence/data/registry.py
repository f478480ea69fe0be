"""The published corpora by name, and whether one is whole."""

from collections.abc import Mapping
from pathlib import Path

from deq_sequence.data import wikitext
from deq_sequence.data.corpora import CorpusError, PublishedCorpus

CORPORA: Mapping[str, PublishedCorpus] = {**wikitext.CORPORA}


def check(name: str, root: Path, *, released: bool = True) -> list[str]:
    """What is missing or wrong in the corpus `name` below `root`; with `released`, also whether a text is cut short."""
    published = CORPORA[name]
    try:
        corpus = published.read(root)
    except CorpusError as error:
        return [str(error)]
    problems = []
    for split, expected in published.lines.items() if released else ():
        try:
            lines = sum(1 for _ in corpus.lines(split))
        except CorpusError as error:
            problems.append(str(error))
            continue
        if lines != expected:
            problems.append(f"{corpus.texts[split]}: expected {expected} lines, got {lines}; fetch it again")
    return problems
