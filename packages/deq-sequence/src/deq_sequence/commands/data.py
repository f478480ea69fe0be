"""Commands for the published corpora."""

import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import Positional, finish
from deq_core.experiment.download.fetch import fetch as fetch_source
from deq_sequence.data import registry
from deq_sequence.data.registry import CORPORA


def fetch(name: Annotated[str, Positional], root: Path = Path("data")) -> None:
    """Downloads the corpus NAME (wikitext-103, wikitext-2) to `root`.

    A broken download is continued, and the whole file has the checksum of the original archive or is refused.
    """
    fetch_source(CORPORA[_known(name)].source, root)


def check_data(name: Annotated[str, Positional], root: Path = Path("data"), released: bool = True) -> None:
    """Names what is missing or cut short in the corpus NAME below `root`; exits with 1 where something is.

    `--no-released` is for texts of other lengths in the same layout.
    """
    problems = registry.check(_known(name), root, released=released)
    for problem in problems:
        print(problem)
    finish({"problems": len(problems)})
    if problems:
        sys.exit(1)


def _known(name: str) -> str:
    if name not in CORPORA:
        sys.exit(f"deq-sequence: expected one of {', '.join(CORPORA)}, got {name!r}")
    return name
