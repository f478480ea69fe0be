"""Records a run: parameters, tags, metrics, files and its end.

If the store fails or is slow, the run continues without it. Its record is kept in a folder and sent at the end of the
run, or later by a command. If a sender runs (`sender.py`), the record is kept for it from the start.
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment.config import plain, profile_read, sections_read
from deq_core.experiment.files import write_json
from deq_core.experiment.outputs.written import files_of
from deq_core.experiment.tracking import provenance, sender
from deq_core.experiment.tracking.store import entries
from deq_core.experiment.tracking.store.connection import connect, is_remote
from deq_core.experiment.tracking.store.entries import Entry, Heading, close_abandoned, deliver, run_of
from deq_core.experiment.tracking.store.keys import key_of
from deq_core.experiment.tracking.store.patience import LIMIT, Result, is_away, within
from deq_core.experiment.tracking.store.processes import this_process
from deq_core.experiment.tracking.store.sqlite_store import first_line
from deq_core.experiment.tracking.unsent import Unsent, folder_of

if TYPE_CHECKING:
    from deq_core.experiment.tracking.store.entries import MlflowClient

_FLUSH_SECONDS = 10.0
_BUDGET = 12.0
"""Seconds that a run may wait for its store, not counting the last attempt at its end."""
_SHARE = 0.05
"""Additional share of its time that a run may wait, so that a distant server that is slow but works stays in use."""
IDENTITY = "tracking.json"
"""File in a scratch folder that names the run to resume."""


class Recording:
    """Recorder of this process's run; buffers metrics for some seconds and sends them together."""

    def __init__(self, uri: str, heading: Heading, scratch: Path | None):
        self.uri, self.heading, self.scratch = uri, heading, scratch
        self.unsent = Unsent(folder_of(uri) / heading["key"])
        self.client: MlflowClient | None = None
        """None while the store is unavailable, or if a sender sends the record."""
        self.id = ""
        self.held: list[tuple[str, float, int, int]] = []
        self.last_steps: dict[str, int] = {}
        self.made = self.flushed = time.monotonic()
        self.waited = 0.0
        """Seconds spent waiting for the store."""

    def begin(
        self, params: Mapping[str, object], tags: Mapping[str, str], data: Mapping[str, str], *, resumes: bool
    ) -> None:
        """Begins the run with its parameters and tags; `data` maps names of data sets to digests.

        Raises:
            OutputError, errors of MLflow: the store refuses the run; nothing has been done yet.
        """
        profile = profile_read()
        said = {"params.sections": ",".join(sections_read())} | ({} if profile is None else {"profile": profile})
        said |= {**provenance.of_process(), **tags}
        first = [entries.params(params), entries.tags(said, params)]
        if data:
            first.append({"inputs": dict(data)})
        if resumes:
            first.insert(0, {"resume": this_process()})

        def begun(client: "MlflowClient") -> tuple[str, dict[str, list[int]]]:
            close_abandoned(client)
            run = self.unsent.send(client) if self.unsent.exists() else run_of(client, self.heading)
            for entry in first:
                deliver(client, run.info.run_id, entry)
            return run.info.run_id, entries.steps(client, run)

        if not sender.at_work(self.unsent.folder.parent):
            try:
                client = connect(self.uri, write=True)
                self.id, known = self._wait(lambda: begun(client))
                self.client, self.last_steps = client, {name: max(steps) for name, steps in known.items()}
            except Exception as error:
                if not is_away(error, remote=is_remote(self.uri)):
                    raise
                self._go_on_without(error)
        if self.client is None:
            self.last_steps = self.unsent.steps()
            for entry in first:
                self._keep(entry)
        if self.scratch is not None:
            write_json(self.scratch / IDENTITY, {"run": self.heading["key"]})

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        now = int(time.time() * 1000)
        for name, value in values.items():
            key = key_of(name)
            if step > self.last_steps.get(key, -1):
                self.last_steps[key] = step
                self.held.append((key, float(value), now, step))
        if time.monotonic() - self.flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self.held:
            self._tell({"metrics": self.held})
            self.held = []
        self.flushed = time.monotonic()

    def fail(self, error: BaseException) -> None:
        """Ends the run as failed or killed, with the error as a tag; faults of the store are only warnings."""
        reason = f"{type(error).__name__}: {first_line(error) if str(error) else ''}"[:500]
        self.held += entries.spent()
        self.flush()
        self._tell(entries.tags({"error": reason}))
        fault = self._end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        if fault:
            _warn(fault)

    def finish(self, config: object, out: Path) -> None:
        """Uploads figures, metrics and configuration, tags every file of `out`, and ends the run."""
        files = files_of(out)
        self.held += entries.spent()
        self.flush()
        for path in files:
            if path.suffix in (".svg", ".png") or path.name == "metrics.json":
                self._tell({"file": str(path)})
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / "config.json", plain(config))
            self._tell({"file": str(Path(folder) / "config.json")})
        self._tell(entries.tags(provenance.of_files("out", files)))
        fault = self._end("FINISHED")
        if self.scratch is not None:
            (self.scratch / IDENTITY).unlink(missing_ok=True)
        if fault:
            _warn(f"{out} is whole. {fault}")

    def _end(self, status: str) -> str:
        """Ends the run and sends the kept record; returns a message on what is left to do, or an empty string."""
        self._tell(entries.tags({"params.sections": ",".join(sections_read())}))
        if self.unsent.exists():
            self._keep(entries.end(status))
        else:
            self._tell(entries.end(status))
        if not self.unsent.exists() or sender.at_work(self.unsent.folder.parent):
            return ""
        try:
            within(LIMIT, lambda: self.unsent.send(connect(self.uri)))
        except Exception as error:
            return (
                f"The record of its run waits in {self.unsent.folder}: {first_line(error)}. When the tracking store is "
                f"back: python -m deq_core.experiment.tracking.send {self.unsent.folder.parent}"
            )
        return ""

    def _tell(self, entry: Entry) -> None:
        client = self.client
        if client is not None:
            try:
                self._wait(lambda: deliver(client, self.id, entry))
                return
            except Exception as error:
                self._go_on_without(error)
        self._keep(entry)

    def _wait(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, limited by the time that the run may still wait for its store."""
        begun = time.monotonic()
        left = min(LIMIT, _BUDGET + _SHARE * (begun - self.made) - self.waited)
        if left <= 0:
            raise TimeoutError(f"it is slow, and this run has waited {self.waited:.0f} s for it")
        try:
            return within(left, work)
        finally:
            self.waited += time.monotonic() - begun

    def _go_on_without(self, error: BaseException) -> None:
        self.client = None
        _warn(
            f"{self.heading['store']}: the tracking store does not accept the run: {first_line(error)}. The work "
            f"continues; its record is kept in {self.unsent.folder} and sent at the end"
        )

    def _keep(self, entry: Entry) -> None:
        try:
            self.unsent.keep(self.heading, entry)
        except OSError as error:
            _warn(f"the run continues without a part of its record: {first_line(error)}")


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)
