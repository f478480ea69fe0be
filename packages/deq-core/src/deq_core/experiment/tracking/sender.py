"""Sends the records of many runs from one process, so that the runs need not load MLflow.

    python -m deq_core.experiment.tracking.sender

While it runs, runs that begin on the same machine keep their records in mlflow-unsent, and reach the store some seconds
later. It ends when its standard input is closed, and so with the process that started it. A run that ends later sends
the rest of its record itself.
"""

import contextlib
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment.errors import UserError
from deq_core.experiment.files import write_text
from deq_core.experiment.tracking.store.connection import connect, is_remote, tracking_uri
from deq_core.experiment.tracking.store.entries import close_abandoned
from deq_core.experiment.tracking.store.patience import is_away
from deq_core.experiment.tracking.store.processes import running, this_process
from deq_core.experiment.tracking.store.sqlite_store import first_line, one_line
from deq_core.experiment.tracking.unsent import Unsent, folder_of

if TYPE_CHECKING:
    from deq_core.experiment.tracking.store.entries import MlflowClient

PAUSE = 5.0
"""Seconds between two looks at the records."""
_NAME = "sender"
"""File in mlflow-unsent with the identity of the sender's process."""


class Sender:
    """Sends new entries of the records in the folder of the store at `uri`."""

    def __init__(self, uri: str):
        self.uri, self.folder = uri, folder_of(uri)
        self.records: dict[Path, Unsent] = {}
        self.clients: dict[str, MlflowClient] = {}
        self.refused: dict[Path, str] = {}
        """{record: error} of records that a store rejected; they are not sent again."""

    def look(self) -> str | None:
        """Sends new entries; returns the reason if a store is unavailable, otherwise None.

        Raises:
            OutputError: the store is not valid or not writable.
        """
        try:
            self._client(self.uri)
        except Exception as error:
            if not is_away(error, remote=is_remote(self.uri)):
                raise
            return first_line(error)
        folders = [path.parent for path in self.folder.glob("*/run.json")]
        self.records = {folder: self.records.get(folder) or Unsent(folder) for folder in folders}
        # by start time, so that parents are created before their children
        for record in sorted(self.records.values(), key=lambda record: record.began):
            if record.folder in self.refused:
                continue
            try:
                record.send(self._client(record.place))
            except Exception as error:
                if is_away(error, remote=is_remote(self.uri)):
                    return first_line(error)
                self.refused[record.folder] = first_line(error)
            if not record.exists():
                del self.records[record.folder]
        return None

    def _client(self, uri: str) -> "MlflowClient":
        if uri not in self.clients:
            with one_line(uri):
                client = connect(uri, write=True)
                close_abandoned(client)
            self.clients[uri] = client
        return self.clients[uri]


def at_work(folder: Path) -> bool:
    """Whether a sender for the records in `folder` runs on this machine."""
    return _named(folder) is not None


def _named(folder: Path) -> str | None:
    """Identity of the sender for `folder`, None if none runs."""
    try:
        process = (folder / _NAME).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return process if running(process) else None


def main() -> None:
    """Runs until standard input is closed; ends at once if the store refuses, which the runs then report themselves."""
    sender = Sender(tracking_uri())
    folder, own = sender.folder, this_process()
    try:
        closed = False
        while not closed:
            if not at_work(folder):
                folder.mkdir(parents=True, exist_ok=True)
                write_text(folder / _NAME, own)
            sender.look()
            closed = bool(select.select([sys.stdin], [], [], PAUSE)[0]) and not os.read(sys.stdin.fileno(), 1)
    except (UserError, OSError) as error:
        sys.exit(str(error))
    finally:
        if _named(folder) == own:
            (folder / _NAME).unlink(missing_ok=True)
    sender.refused.clear()
    fault = sender.look() or next(iter(sender.refused.values()), None)
    with contextlib.suppress(OSError):
        folder.rmdir()  # succeeds if no record waits
    if fault is not None:
        sys.exit(
            f"Records of runs wait in {folder}: {fault}. When the tracking store is back: "
            f"python -m deq_core.experiment.tracking.send {folder}"
        )


if __name__ == "__main__":
    main()
