"""What is written into a run: metrics, tags, files and its end. A store that fails is a warning here, no error."""

import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment.config import plain, sections_read
from deq_core.experiment.files import write_json
from deq_core.experiment.tracking import provenance
from deq_core.experiment.tracking.keys import digest, key_of
from deq_core.experiment.tracking.processes import this_process
from deq_core.experiment.tracking.sqlite_store import first_line
from deq_core.experiment.written import files_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_FLUSH_SECONDS = 10.0
_MANY, _FEW = 1000, 100  # metrics, and parameters or tags, that MLflow takes in one call
_LONGEST_PARAMETER, _LONGEST_TAG = 6000, 8000  # characters of a value
IDENTITY = "tracking.json"
"""The file of a scratch folder that names the run to continue."""
PROCESS = "process"
"""The tag that names the process a run belongs to."""


class Recording:
    """The run of this process: holds metrics back for some seconds and sends them together."""

    def __init__(self, client: "MlflowClient", run: "Run", scratch: Path | None):
        self.client, self.id, self.scratch = client, run.info.run_id, scratch
        self.params = run.data.params
        self.held: list[Metric] = []
        self.sent = time.monotonic()
        self.last_steps = {name: self._last_step(name) for name in run.data.metrics}

    def begin(self, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Says what runs, and with what.

        Raises:
            OutputError and what MLflow raises: it cannot be recorded, and nothing has been done yet.
        """
        from mlflow.entities import Param

        said = {PROCESS: this_process(), "params.sections": ",".join(sections_read())}
        long = _long(params)
        entries = [Param(key_of(name), _storable(str(value), _LONGEST_PARAMETER)) for name, value in params.items()]
        for start in range(0, 0 if self.params else len(entries), _FEW):  # a run that is continued has its own
            self.client.log_batch(self.id, params=entries[start : start + _FEW])
        self._mark({**provenance.of_process(), **said, **tags, **long})
        if self.scratch is not None:
            write_json(self.scratch / IDENTITY, {"run": self.id})

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in values.items():
            if step > self.last_steps.setdefault(key_of(name), -1):
                self.held.append(Metric(key_of(name), float(value), now, step))
        if time.monotonic() - self.sent > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        with self._spared("metrics held back"):
            self._flush()
        self.sent = time.monotonic()

    def artifact(self, path: Path) -> None:
        with self._spared(f"{path} is not kept with the run"):
            self.client.log_artifact(self.id, str(path))

    def tag(self, key: str, value: str) -> None:
        with self._spared(f"the run is not marked {key}={value}"):
            self._mark({key: value})

    def fail(self, error: BaseException) -> None:
        """Says why the run failed; what the store says besides becomes a note of that error."""
        reason = f"{type(error).__name__}: {first_line(error) if str(error) else ''}"[:500]
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        faults = _tried(
            {
                "its last metrics": self._flush,
                "its error": lambda: self._mark({"error": reason}),
                "its end": lambda: self._end(status),
            }
        )
        if faults:
            error.add_note(f"the tracking store was not told {faults}")

    def finish(self, config: object, out: Path) -> None:
        """Keeps what a reader of the run wants to see, tags every file of `out`, and ends the run."""
        faults = _tried(
            {
                "its last metrics": self._flush,
                "its figures and configuration": lambda: self._copy(config, files_of(out)),
                "the digests of its files": lambda: self._mark(provenance.of_files("out", files_of(out))),
                "its end": lambda: self._end("FINISHED"),
            }
        )
        if faults:
            _warn(f"{out} is whole, but the record of its run {self.id} lacks {faults}")

    def _copy(self, config: object, files: list[Path]) -> None:
        for path in files:
            if path.suffix in (".svg", ".png") or path.name == "metrics.json":
                self.client.log_artifact(self.id, str(path))
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / "config.json", plain(config))
            self.client.log_artifact(self.id, str(Path(folder) / "config.json"))

    def _end(self, status: str) -> None:
        self._mark({"params.sections": ",".join(sections_read())})
        self.client.set_terminated(self.id, status)
        if status == "FINISHED" and self.scratch is not None:
            (self.scratch / IDENTITY).unlink(missing_ok=True)

    def _flush(self) -> None:
        while self.held:
            self.client.log_batch(self.id, metrics=self.held[:_MANY])
            del self.held[:_MANY]

    def _mark(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        both = {**{key_of(name): value for name, value in tags.items()}, **_long(tags)}
        entries = [RunTag(key, _storable(value, _LONGEST_TAG)) for key, value in both.items()]
        for start in range(0, len(entries), _FEW):
            self.client.log_batch(self.id, tags=entries[start : start + _FEW])

    @contextlib.contextmanager
    def _spared(self, what: str) -> Iterator[None]:
        """A store that fails must not end a training."""
        try:
            yield
        except Exception as error:
            _warn(f"{what}: the tracking store did not take it: {first_line(error)}")

    def _last_step(self, name: str) -> int:
        return max(metric.step for metric in self.client.get_metric_history(self.id, name))


def _tried(steps: Mapping[str, Callable[[], object]]) -> str:
    """What of some steps could not be done and why, empty where all were: after one that fails, the next may work."""
    faults: dict[str, str] = {}
    for what, step in steps.items():
        try:
            step()
        except Exception as error:
            faults[what] = first_line(error)
    return f"{', '.join(faults)}: {next(iter(faults.values()))}" if faults else ""


def _long(names: Iterable[str]) -> dict[str, str]:
    """The whole of names that are too long for a key, as tags `name.<digest>`."""
    return {f"name.{digest(name)}": name for name in names if "::" in key_of(name)}


def _storable(value: str, longest: int) -> str:
    """A text without surrogates, which stand for bytes that are no UTF-8 and no database takes; cut if too long."""
    return value.encode("utf-8", "backslashreplace").decode()[:longest]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)
