"""Commands for data: those of the pipeline, and published sets."""

import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment import config
from deq_core.experiment.commands import ADDED, PARAMS, Positional, default, finish
from deq_core.experiment.config import ConfigError
from deq_flow.commands.study import STUDIES
from deq_flow.data.mini.write import MiniConfig, write_mini
from deq_flow.data.registry import REGISTRY
from deq_flow.data.sets import own
from deq_flow.params import Data


def download(
    name: Annotated[str, Positional, default("the data of PARAMS")] = "",
    out: Annotated[Path | None, ADDED, default("data/flow; with a published NAME, data")] = None,
    params: Path = PARAMS,
    section: str = "flow",
) -> None:
    """Writes the data of `params` below `out`: miniature sets, from photographs in the packages.

    With NAME, which is chairs, things, sintel, kitti, hd1k or spring, downloads that published set to `out`, or says
    how to get it. A broken download is continued. No checksum of these files is published: that of the first archive
    that unpacked is recorded beside it and asked of every later one.

    With the released sets, what is missing is fetched to where `params` says, and `out` gets a manifest of the files
    there.

    Args:
        name: a published set; or mini, the miniature sets with their default sizes, whatever `params` says.
        out: folder of the data.
        params: file with the parameters.
        section: where in that file.
    """
    if name in own.SETS:
        raise ConfigError(f"{name} is {own.SETS[name].source.title}, not published: {own.SETS[name].source.manual}")
    if name == "mini":
        finish(REGISTRY.provide(Path("data/flow") if out is None else out, MiniConfig(), write_mini))
        return
    if name:
        REGISTRY.fetch(name, Path("data") if out is None else out)
        return
    out = Path("data/flow") if out is None else out
    STUDIES.check("flow", params, section)
    settings: Data = config.load(Data, params, f"{section}.data")
    finish(REGISTRY.provide(out, settings, write_mini))


def check_data(
    name: Annotated[str, Positional], root: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Names what is missing, damaged or of another size than its frame in the data set NAME; exits with 1 where it is.

    Args:
        name: a published set, or own: the pairs of the folder `--root` itself.
        root: folder that the set is below.
        released: whether the set is all there, as published; not so with a part of one or a miniature.
        thorough: whether every file is decoded.
    """
    problems = REGISTRY.report(name, root, released=released, thorough=thorough)
    finish({"problems": problems})
    if problems:
        sys.exit(1)
