"""Sends kept records of runs to the tracking store: `python -m deq_core.experiment.tracking.send`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deq_core.experiment.errors import UserError
from deq_core.experiment.tracking.store.connection import connect, tracking_uri
from deq_core.experiment.tracking.store.sqlite_store import one_line, without_password
from deq_core.experiment.tracking.unsent import FOLDER, Unsent, folder_of


def send(folder: Path, uri: str | None = None) -> list[str]:
    """Sends all records in `folder` and returns one line for each; removes records of ended runs.

    Args:
        folder: mlflow-unsent, or a folder in it.
        uri: URI of the store; None for the one that each record was meant for, with the password in
            MLFLOW_TRACKING_URI.

    Raises:
        OutputError: a store is unavailable, or rejects part of a record.
    """
    lines = []
    for path in sorted(folder.glob("*/run.json")) or sorted(folder.glob("run.json")):
        record = Unsent(path.parent)
        name, place = record.heading["name"], uri or record.place
        with one_line(place):
            run = record.send(connect(place, write=True))
        going_on = ", which has not ended yet" if record.exists() else ""
        lines.append(f"{name}: run {run.info.run_id} of {without_password(place)}{going_on}")
    return lines or [f"{folder}: nothing to send"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deq_core.experiment.tracking.send", description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        help=f"the records; by default {FOLDER} beside mlflow.db, or here if the store is a server",
    )
    parser.add_argument("--to", metavar="URI", help="another store than the one that the runs were meant for")
    given = parser.parse_args(arguments)
    try:
        print(*send(given.folder or folder_of(tracking_uri()), given.to), sep="\n")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
