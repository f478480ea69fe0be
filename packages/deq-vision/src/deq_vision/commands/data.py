"""Commands for data: the mini sets, and the published ones."""

import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment import config
from deq_core.experiment.commands import ADDED, PARAMS, Positional, default, finish
from deq_vision.commands.study import STUDIES
from deq_vision.data.mini.write import MiniSets, write_mini
from deq_vision.data.registry import REGISTRY
from deq_vision.params import Data


def download(
    name: Annotated[str, Positional, default("the data of PARAMS")] = "",
    out: Annotated[Path | None, ADDED, default("data/vision; with a published NAME, data")] = None,
    params: Path = PARAMS,
    section: str = "vision",
) -> None:
    """Writes the data of `params` below `out`: of the mini sets, clutter digits and videos of streets.

    With NAME, which is cifar10, imagenet, cityscapes, cityscapes-videos, vid or det, downloads that published set to
    `out`, or says how to get it: all but the first ask for a login. A broken download is continued.

    With the released sets, what is missing is fetched to where `params` says, and `out` gets a manifest of the files
    there.

    Args:
        name: a published set; or mini, the mini sets with their default sizes, whatever `params` says.
        out: folder of the data.
        params: file with the parameters.
        section: where in that file.
    """
    if name == "mini":
        finish(REGISTRY.provide(Path("data/vision") if out is None else out, MiniSets(), write_mini))
        return
    if name:
        REGISTRY.fetch(name, Path("data") if out is None else out)
        return
    out = Path("data/vision") if out is None else out
    STUDIES.check("vision", params, section)
    settings: Data = config.load(Data, params, f"{section}.data")
    finish(REGISTRY.provide(out, settings, write_mini))


def check_data(
    name: Annotated[str, Positional], root: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Names what is missing or damaged in the data set NAME below `root`; exits with 1 where something is.

    A file that was cut off is found, a PNG that was overwritten, and labels or annotations of another size than their
    frame. A JPEG has no checksum: with `--thorough` part of those that were overwritten are found.

    Args:
        name: a set as for `download`, or own: pictures of one's own in the folder `root` itself, laid out as for
            `train`, which are all read.
        root: folder that the set is below.
        released: whether the set is all there, as published; not so with a part of one or a mini set.
        thorough: whether every image is decoded.
    """
    problems = REGISTRY.report(name, root, released=released, thorough=thorough)
    finish({"problems": problems})
    if problems:
        sys.exit(1)
