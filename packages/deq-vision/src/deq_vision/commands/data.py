"""Commands for data, generated and published."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment import config
from deq_core.experiment.commands import ADDED, PARAMS, Positional, default, finish, finish_with
from deq_vision.commands.study import STUDIES
from deq_vision.data.mini.write import Data, MiniSets, write_mini
from deq_vision.data.registry import REGISTRY


def download(
    name: Annotated[str, Positional, default("the data of PARAMS")] = "",
    out: Annotated[Path | None, ADDED, default("data/vision; with a published NAME, data")] = None,
    params: Path = PARAMS,
    section: str = "vision",
) -> None:
    """Generates the miniature data sets in OUT; with NAME, downloads a published set.

    The miniature sets are digits in clutter and street videos. NAME is cifar10, imagenet, cityscapes,
    cityscapes-videos, vid or det. All but cifar10 need a login, and come with instructions. An interrupted download
    resumes.

    Where `params` asks for published sets, those that are missing are downloaded to the folder named there, and OUT
    gets a manifest of their files.

    Args:
        name: a published set; or mini, the miniature sets in their default sizes, whatever `params` says.
        out: folder of the data.
        params: file with the parameters.
        section: section of that file.
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
    name: Annotated[str, Positional], data: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Checks the data set NAME in the folder DATA for missing and damaged files.

    Prints one line for each problem; the exit status is then 1. Found are truncated files, PNG files that were
    overwritten, and labels or annotations of another size than their frame. JPEG files have no checksum: only
    `--thorough` finds some of those that were overwritten.

    Args:
        name: a set as for `download`, or own: your own labelled images directly in DATA, laid out as for `train`, all
            of which are read.
        data: folder that contains the set.
        released: require the complete set as published; turn this off for a part of it or a miniature.
        thorough: decode every image completely.
    """
    finish_with(REGISTRY.check(name, data, released=released, thorough=thorough))
