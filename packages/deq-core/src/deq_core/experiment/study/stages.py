"""What the stages of a pipeline have left for those after them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from deq_core.experiment.errors import LayoutError
from deq_core.experiment.written import RECORD

Tables = TypeVar("Tables")


def all_there(tables: Tables, results: Path, pipeline: str) -> Tables:
    """The same tables, whose folders all are there.

    Args:
        tables: folders as a figure or a report reads them: a data class, a mapping or a sequence, nested.
        results: the folder that they are below.
        pipeline: what makes them.

    Raises:
        LayoutError: a stage before this one has not left its folder.
    """
    wanted = list(dict.fromkeys(_folders(tables)))
    if missing := [folder for folder in wanted if not folder.is_dir()]:
        raise LayoutError(
            f"{results}: expected the results of every stage before this one, but {len(missing)} of {len(wanted)} "
            f"are missing, such as {missing[0].relative_to(results)}; `snakemake {pipeline}` makes them",
            missing,
        )
    return tables


def figures_below(results: Path, pipeline: str) -> list[str]:
    """Names of the figures of a pipeline, sorted.

    Raises:
        LayoutError: none were drawn.
    """
    folder = results / "figures"
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected the figures of the plot before; `snakemake {pipeline}` draws them")
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD)


def _folders(tables: Any) -> Iterator[Path]:
    if isinstance(tables, Path):
        yield tables
    elif is_dataclass(tables):
        yield from _folders([getattr(tables, each.name) for each in fields(tables)])
    elif isinstance(tables, Mapping):
        yield from _folders(list(tables.values()))
    elif isinstance(tables, Sequence) and not isinstance(tables, str):
        for each in tables:
            yield from _folders(each)
