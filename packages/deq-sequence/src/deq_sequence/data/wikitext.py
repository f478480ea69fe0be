"""WikiText (Merity et al., ICLR 2017): Wikipedia articles with words and punctuation separated by spaces."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.published import DataSet
from deq_core.experiment.download.fetch import Archive, Source
from deq_sequence.data.corpora import SPLITS, Corpus, Split, read_files

# The host is that of the corpus's first author. The original addresses, an S3 bucket of MetaMind, are closed, see
# IST-DASLab/Quartet, pull request 11, and ooples/AiDotNet, issue 1284. The checksums are those of the original
# archives, from torchtext/datasets/wikitext103.py and wikitext2.py in torchtext.
HOST = "https://wikitext.smerity.com"
LICENCE = (
    "Text of Wikipedia, Creative Commons Attribution-ShareAlike (CC BY-SA). Cite Merity et al., Pointer Sentinel "
    "Mixture Models, ICLR 2017."
)


def read_wikitext(root: Path, name: str) -> Corpus:
    """The corpus in `root`/name/wiki.{train,valid,test}.tokens. Raises CorpusError if a file is missing."""
    return read_files(*(root / name / f"wiki.{split}.tokens" for split in SPLITS))


def lines_of(root: Path, name: str, split: Split) -> range:
    """A range over the lines of a split. Raises CorpusError if it cannot be read."""
    return range(sum(1 for _ in read_wikitext(root, name).lines(split)))


def _published(name: str, title: str, *, megabytes: int, checksum: str, lines: int) -> DataSet:
    archive = Archive(out=name, urls=(f"{HOST}/{name}-v1.zip",), checksum=checksum)
    counts: dict[Split, int] = {"train": lines, "valid": 3_760, "test": 4_358}
    return DataSet(
        source=Source(title=title, page=HOST, licence=f"{LICENCE} {megabytes} MB packed.", archives=(archive,)),
        folder=name,
        parts=tuple(Part("", partial(lines_of, name=name, split=split), count) for split, count in counts.items()),
        whole={},
    )


SETS: Mapping[str, DataSet] = {
    "wikitext-103": _published(
        "wikitext-103",
        "WikiText-103",
        megabytes=190,
        checksum="md5:9ddaacaf6af0710eda8c456decff7832",
        lines=1_801_350,
    ),
    "wikitext-2": _published(
        "wikitext-2", "WikiText-2", megabytes=4, checksum="md5:542ccefacc6c27f945fb54453812b3cd", lines=36_718
    ),
}
