"""Commands for the published data sets."""

import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import Positional, finish
from deq_core.experiment.download.fetch import fetch as fetch_source
from deq_flow.data import check as checks
from deq_flow.data.catalogue import SOURCES


def fetch(name: Annotated[str, Positional], root: Path = Path("data")) -> None:
    """Downloads the published data set NAME to `root`, or says how to get it.

    NAME is chairs, things, sintel, kitti, hd1k or spring. A broken download is continued. No checksum of these files
    is published: that of the first archive that unpacked is recorded beside it and asked of every later one.
    """
    if name not in SOURCES:
        sys.exit(f"deq-flow: expected a data set, one of {', '.join(SOURCES)}, got {name!r}")
    fetch_source(SOURCES[name], root)


def check_data(
    name: Annotated[str, Positional], root: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Names what is missing, damaged or of another size than its frame in the data set NAME; exits with 1 where it is.

    The set is below `root`. `--no-released` is for a part of a set or a miniature; `--thorough` decodes every file.
    """
    if name not in checks.PARTS:
        sys.exit(f"deq-flow check-data: expected one of {', '.join(checks.PARTS)}, got {name!r}")
    problems = checks.check(name, root, released=released, thorough=thorough)
    for problem in problems:
        print(problem)
    finish({"problems": len(problems)})
    if problems:
        sys.exit(1)
