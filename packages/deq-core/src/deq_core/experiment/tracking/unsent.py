"""Records of runs that wait for the tracking store, each in a folder of mlflow-unsent.

    python -m deq_core.experiment.tracking.send

sends them once the store is available. The command may be interrupted and repeated: sent entries are noted, and sending
an entry twice changes nothing.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from deq_core.experiment.files import OutputError, write_json
from deq_core.experiment.tracking.store import entries
from deq_core.experiment.tracking.store.connection import is_remote, tracking_uri
from deq_core.experiment.tracking.store.entries import Entry, Heading, deliver, run_of
from deq_core.experiment.tracking.store.patience import is_away
from deq_core.experiment.tracking.store.processes import gone
from deq_core.experiment.tracking.store.sqlite_store import first_line, sqlite_path, without_password

if TYPE_CHECKING:
    from deq_core.experiment.tracking.store.entries import MlflowClient, Run

FOLDER = "mlflow-unsent"


def folder_of(uri: str) -> Path:
    """Folder of the records that wait for the store at `uri`: beside its file, or in the working directory."""
    path = sqlite_path(uri)
    return (Path() if path is None else path.parent).absolute() / FOLDER


class Unsent:
    """The record of one run in a folder, which exists once it has an entry."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._run: Run | None = None
        self._known: dict[str, set[int]] = {}
        """Steps of each metric that the store has."""

    def exists(self) -> bool:
        return (self.folder / "run.json").exists()

    @property
    def heading(self) -> Heading:
        """The heading of the run.

        Raises:
            OutputError: the record is damaged, for instance by a power cut.
        """
        path = self.folder / "run.json"
        try:
            return Heading(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise OutputError(
                f"{path}: expected the name, time and tags of a run as JSON, got something else, so the record is "
                f"lost; remove {self.folder}"
            ) from None

    @property
    def began(self) -> int:
        """Start time of the run in milliseconds since 1970; 0 if the record is damaged."""
        try:
            return self.heading["time"]
        except OutputError:
            return 0

    @property
    def place(self) -> str:
        """URI of the record's store, with the password in MLFLOW_TRACKING_URI.

        Raises:
            OutputError: as in `heading`.
        """
        store = self.heading["store"]
        return tracking_uri() if without_password(tracking_uri()) == store else store

    def keep(self, heading: Heading, entry: Entry) -> None:
        """Appends an entry; files are copied into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            write_json(self.folder / "run.json", heading)
        if "file" in entry:
            kept = self.folder / "files" / Path(entry["file"]).name
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(entry["file"], kept)
            entry = {"file": f"files/{kept.name}"}
        with (self.folder / "entries.jsonl").open("a+b") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")  # a killed process left an incomplete line
            file.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """The entries with their numbers, without incomplete lines that a killed process left."""
        path = self.folder / "entries.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for number, line in enumerate(lines):
            try:
                yield number, json.loads(line)
            except ValueError:
                continue

    def steps(self) -> dict[str, int]:
        """The last step of each metric."""
        rows = [row for _, entry in self.entries() for row in entry.get("metrics", ())]
        return {name: step for name, _, _, step in sorted(rows, key=lambda row: row[3])}

    def send(self, client: "MlflowClient") -> "Run":
        """Sends unsent entries, and removes the folder if the run has ended; returns the run.

        Raises:
            OutputError: the store rejects entries, which are kept.
            TimeoutError, errors of MLflow: the store is unavailable, or another process is sending this record.
        """
        heading = self.heading
        try:
            with FileLock(self.folder / "sending", timeout=0):
                if self._run is None:
                    self._run = run = run_of(client, heading)
                    self._known = {name: set(found) for name, found in entries.steps(client, run).items()}
                run = self._run
                if self.exists():  # another process may have sent it
                    last, process = self._send(client, run)
                    if "end" not in last and gone(process):
                        deliver(client, run.info.run_id, last := entries.end("KILLED"))
                    if "end" not in last:
                        return run
                shutil.rmtree(self.folder, ignore_errors=True)
        except Timeout:
            raise TimeoutError(f"another process sends {self.folder} now") from None
        return run

    def _send(self, client: "MlflowClient", run: "Run") -> tuple[Entry, str]:
        """Sends the remaining entries; returns the record's last entry and the process that the run belongs to."""
        process = run.data.tags.get(entries.PROCESS, "")
        sent, faults, last = self._sent(), [], {}
        for number, entry in self.entries():
            last, process = entry, entry.get("resume", process)
            if str(number) in sent:
                continue
            if "metrics" in entry:  # sent metrics may lack a note if the answer was lost
                rows = [row for row in entry["metrics"] if row[3] not in self._known.get(row[0], ())]
                entry = {"metrics": rows}
            elif "file" in entry:
                entry = {"file": str(self.folder / entry["file"])}
            try:
                deliver(client, run.info.run_id, entry)
            except Exception as error:
                if is_away(error, remote=is_remote(self.heading["store"])):
                    raise
                faults.append(first_line(error))
            else:
                with (self.folder / "sent").open("a", encoding="utf-8") as file:
                    file.write(f"{number}\n")
        if faults:
            raise OutputError(f"{self.folder}: the tracking store does not take {len(faults)} entries: {faults[0]}")
        return last, process

    def _sent(self) -> set[str]:
        path = self.folder / "sent"
        return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
