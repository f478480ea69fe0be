"""What was measured before a value that is not finite, or a damaged file, ended the command."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deq_core.experiment.errors import FileFormatError, NonFiniteError
from deq_core.experiment.files import OutputError, output_directory
from deq_core.experiment.tables import Row, write_rows


@contextmanager
def rescued(out: Path, write: Callable[[Path], object]) -> Iterator[None]:
    """Where the block meets a value that is not finite, or a damaged file, writes what there is to `out`-partial.

    The error then names that folder, which is beside `out`. `out` stays as it was: what other stages read is never half
    a result.

    Args:
        out: the folder of the whole result.
        write: puts what was measured so far into a folder; nothing is kept of one that stays empty.
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
    """What `rescued` writes of a folder of files: those that are there."""
    return lambda kept: shutil.copytree(folder, kept, dirs_exist_ok=True)


def tables(rows: Mapping[str, Sequence[Row]]) -> Callable[[Path], None]:
    """What `rescued` writes: {name}.csv of each table that has a row by then."""

    def write(folder: Path) -> None:
        for name, table in rows.items():
            if table:
                write_rows(folder / f"{name}.csv", table)

    return write
