"""Commands for the published data sets."""

import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import Positional, finish
from deq_flow.data.registry import REGISTRY


def fetch(name: Annotated[str, Positional], root: Path = Path("data")) -> None:
    """Downloads the published data set NAME to `root`, or says how to get it.

    NAME is chairs, things, sintel, kitti, hd1k or spring. A broken download is continued. No checksum of these files
    is published: that of the first archive that unpacked is recorded beside it and asked of every later one.
    """
    REGISTRY.fetch(name, root)


def check_data(
    name: Annotated[str, Positional], root: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Names what is missing, damaged or of another size than its frame in the data set NAME; exits with 1 where it is.

    The set is below `root`. `--no-released` is for a part of a set or a miniature; `--thorough` decodes every file.
    """
    problems = REGISTRY.report(name, root, released=released, thorough=thorough)
    finish({"problems": problems})
    if problems:
        sys.exit(1)
