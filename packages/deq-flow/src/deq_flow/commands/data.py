"""Commands for data: those of the pipeline, and published sets."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment import config
from deq_core.experiment.commands import ADDED, PARAMS, Positional, default, finish, finish_with
from deq_core.experiment.config import ConfigError
from deq_flow.commands.study import STUDIES
from deq_flow.data.mini.write import Data, MiniConfig, write_mini
from deq_flow.data.registry import REGISTRY
from deq_flow.data.sets import own


def download(
    name: Annotated[str, Positional, default("the data of PARAMS")] = "",
    out: Annotated[Path | None, ADDED, default("data/flow; with a published NAME, data")] = None,
    params: Path = PARAMS,
    section: str = "flow",
) -> None:
    """Generates the miniature data sets in OUT; with NAME, downloads a published set.

    The miniature sets are made from photographs that come with Python packages. NAME is chairs, things, sintel, kitti,
    hd1k or spring. Sets that cannot be downloaded directly come with instructions. An interrupted download resumes. The
    publishers give no checksums: the checksum of the first archive that unpacks is stored beside it, and every later
    download must have the same.

    Where `params` asks for published sets, those that are missing are downloaded to the folder named there, and OUT
    gets a manifest of their files.

    Args:
        name: a published set; or mini, the miniature sets in their default sizes, whatever `params` says.
        out: folder of the data.
        params: file with the parameters.
        section: section of that file.
    """
    if name in own.SETS:
        source = own.SETS[name].source
        raise ConfigError(f"{name}: nothing to download for {source.title}; {source.manual}")
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
    name: Annotated[str, Positional], data: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Checks the data set NAME for files that are missing, damaged, or of another size than their frame.

    Prints one line for each problem; the exit status is then 1.

    Args:
        name: a published set, or own: the pairs directly in DATA.
        data: folder that contains the set.
        released: require the complete set as published; turn this off for a part of it or a miniature.
        thorough: decode every file completely.
    """
    finish_with(REGISTRY.check(name, data, released=released, thorough=thorough))
