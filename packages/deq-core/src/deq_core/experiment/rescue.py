"""Saves partial results when a non-finite value or a damaged file ends a command."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deq_core.experiment.errors import FileFormatError, NonFiniteError
from deq_core.experiment.files import OutputError, output_directory
from deq_core.experiment.tables import Row, write_rows


@contextmanager
def rescued(out: Path, write: Callable[[Path], object]) -> Iterator[None]:
    """Writes partial results to the folder `out`-partial if the block meets a non-finite value or a damaged file.

    The error then names that folder. `out` itself is unchanged, so other stages never read partial results.

    Args:
        out: folder of the complete result.
        write: writes the results so far into a folder; an empty folder is not kept.
    """
    try:
        yield
    except (FileFormatError, NonFiniteError) as error:
        kept = out.with_name(f"{out.name}-partial")
        try:
            with output_directory(kept) as folder:
                write(folder)
                if not any(folder.iterdir()):
                    raise
        except OutputError as second:
            raise type(error)(f"{error}; what was measured before it is lost: {second}") from error
        raise type(error)(f"{error}; what was measured before it is in {kept}") from error


def files(folder: Path) -> Callable[[Path], object]:
    """Argument `write` of `rescued` that copies the files in `folder`."""
    return lambda kept: shutil.copytree(folder, kept, dirs_exist_ok=True)


def tables(rows: Mapping[str, Sequence[Row]]) -> Callable[[Path], None]:
    """Argument `write` of `rescued` that writes {name}.csv for each table with rows."""

    def write(folder: Path) -> None:
        for name, table in rows.items():
            if table:
                write_rows(folder / f"{name}.csv", table)

    return write
