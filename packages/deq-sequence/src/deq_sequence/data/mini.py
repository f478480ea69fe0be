"""The embedded corpus: two megabytes of English prose from the documentation of SQLite, in the public domain.

`mini.NOTICE` has its source; `make_mini.py` extracts it.
"""

import hashlib
import lzma
import re
from pathlib import Path

from deq_core.experiment.files import write_text
from deq_sequence.data.corpora import SPLITS, Corpus, CorpusError, Split

FILE = Path(__file__).with_name("mini.txt.xz")
SHA256 = "78099a0429649d63f099717461a9b537e364efa098d3eae44376bad2484bcc35"
"""Digest of the text."""
HELD_OUT: dict[int, Split] = {4: "valid", 9: "test"}
"""Held-out splits by position among every ten documents."""


def documents() -> list[str]:
    """The documents of the corpus: a line with the title, then a line for each paragraph.

    Raises CorpusError if the file in the package is damaged.
    """
    try:
        text = lzma.decompress(FILE.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise CorpusError(f"{FILE}: cannot be unpacked ({error}); install the package again") from error
    if hashlib.sha256(text).hexdigest() != SHA256:
        raise CorpusError(f"{FILE}: damaged: its text does not have the SHA-256 {SHA256}; install the package again")
    return text.decode().removesuffix("\n").split("\n\n")


def mini() -> Corpus:
    """The embedded corpus, split by documents, with an empty line between two."""
    parts: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for number, document in enumerate(documents()):
        parts[HELD_OUT.get(number % 10, "train")].append(document)
    return Corpus({split: "\n\n".join(part) + "\n" for split, part in parts.items()})


def write_mini_wikitext(root: Path, name: str = "wikitext-2", *, rarest: int = 3) -> None:
    """Writes the embedded corpus in WikiText's layout and style to `root`/name.

    Words and punctuation are separated by spaces, titles are between equals signs, and words that occur less than
    `rarest` times in the training text are <unk>.
    """
    corpus = mini()
    counts: dict[str, int] = {}
    for line in corpus.lines("train"):
        for word in separated(line):
            counts[word] = counts.get(word, 0) + 1
    for split in SPLITS:
        out, title = [" \n"], True
        for line in corpus.lines(split):
            words = [word if counts.get(word, 0) >= rarest else "<unk>" for word in separated(line)]
            if not words:
                out.append(" \n")
            else:
                out.append(f" = {' '.join(words)} = \n \n" if title else f" {' '.join(words)} \n")
            title = not words
        write_text(root / name / f"wiki.{split}.tokens", "".join(out))


def separated(line: str) -> list[str]:
    """The words, numbers and punctuation marks of a line."""
    return re.findall(r"\w+|[^\w\s]", line)
