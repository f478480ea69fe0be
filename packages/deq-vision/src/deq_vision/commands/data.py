"""Commands for data: the mini sets, and the published ones."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config
from deq_core.experiment.commands import PARAMS, Positional, finish
from deq_core.experiment.fetch import fetch as fetch_source
from deq_vision.data import check as checks
from deq_vision.data.catalogue import SOURCES
from deq_vision.data.mini_digits import MiniDigitsConfig, write_digits
from deq_vision.data.mini_street import MiniStreetConfig, write_street


def download(
    part: Annotated[Literal["digits", "street"], Positional],
    out: Path,
    profile: str = "run",
    params: Path = PARAMS,
    section: str | None = None,
) -> None:
    """Writes a mini set to `out`: clutter digits, or videos of streets, made from what ships with the packages.

    `profile` is a key of params.yaml, such as mini or smoke; `run` is the one that the pipelines use. For the real
    sets see `deq-vision fetch`.
    """
    place = f"{section or f'{profile}.vision'}.data.{part}"
    match part:
        case "digits":
            write_digits(out, config.load(MiniDigitsConfig, params, place))
        case "street":
            write_street(out, config.load(MiniStreetConfig, params, place))
    files = [path for path in out.rglob("*") if path.is_file()]
    finish({"files": len(files), "bytes": sum(path.stat().st_size for path in files)})


def fetch(name: Annotated[str, Positional], root: Path = Path("data")) -> None:
    """Downloads the published data set NAME to `root`, or says how to get it.

    NAME is cifar10, imagenet, cityscapes, cityscapes-videos, vid or det. All but the first ask for a login. A broken
    download is continued.
    """
    if name not in SOURCES:
        sys.exit(f"deq-vision fetch: expected one of {', '.join(SOURCES)}, got {name!r}")
    fetch_source(SOURCES[name], root)


def check_data(
    name: Annotated[str, Positional], root: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Names what is missing or damaged in the data set NAME below `root`; exits with 1 where something is.

    NAME is as for `fetch`. `--no-released` is for a part of a set or a mini set; `--thorough` decodes every file.
    """
    if name not in checks.PARTS:
        sys.exit(f"deq-vision check-data: expected one of {', '.join(checks.PARTS)}, got {name!r}")
    problems = checks.check(name, root, released=released, thorough=thorough)
    for problem in problems:
        print(problem)
    finish({"problems": len(problems)})
    if problems:
        sys.exit(1)
