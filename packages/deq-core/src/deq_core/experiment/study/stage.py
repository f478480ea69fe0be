"""Runs a stage of a study: a job that measures one case and writes its tables to a folder.

A study defines what is measured. Reading parameters, tracking, resuming and writing are shared by all studies.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from torch import Tensor, nn

from deq_core.experiment import config, distributed
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.commands import fingerprint, finish, resumable
from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.arrays import write_arrays
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, write_rows
from deq_core.experiment.tracking.run import Log, track

Case = TypeVar("Case")
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Single:
    """The case of a stage with only one case."""


@dataclass(frozen=True)
class Section:
    """A section of params.yaml. A stage depends only on the values that it loads from it."""

    file: Path
    name: str
    """Path of the section, keys joined by dots."""

    def load(self, kind: Any, key: str = "") -> Any:
        """The value at `key` below the section as an instance of `kind`; see `config.load`."""
        return config.load(kind, self.file, f"{self.name}.{key}" if key else self.name)


@dataclass(kw_only=True)
class Job(Generic[Case, Settings]):
    """A running job: inputs and results so far of one case."""

    case: Case
    settings: Settings
    data: Path
    """Folder of the data sets."""
    model: Path | None = None
    """Network to measure, or initial weights of a training: a folder, or a released file."""
    out: Path
    scratch: Path
    """Folder of the checkpoint from which an interrupted training resumes."""
    log: Log
    tables: defaultdict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    """Rows found so far, by table. They are saved if a value is not finite."""
    arrays: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Arrays for figures, by file name."""
    trained: tuple[nn.Module, object] | None = None
    """Network that the job trained, and its configuration."""

    @property
    def network(self) -> Path:
        """The network to measure.

        Raises:
            ConfigError: `model` is None.
        """
        if self.model is None:
            raise ConfigError("expected --checkpoint, the network that is measured")
        return self.model

    def write(self, metrics: Mapping[str, Any]) -> None:
        """Writes {table}.csv, {arrays}.npz, the network and metrics.json to the folder `out`, atomically."""
        with output_directory(self.out) as folder:
            if self.trained is not None:
                checkpoint.save(folder / "model.safetensors", *self.trained)
            for name, rows in self.tables.items():
                write_rows(folder / f"{name}.csv", rows)
            for name, arrays in self.arrays.items():
                write_arrays(folder / f"{name}.npz", arrays)
            write_json(folder / "metrics.json", metrics)


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[Case, Settings]):
    """One kind of job in a study."""

    name: str
    """Name of its runs, such as "flow.reuse"."""
    section: str
    """Section of params.yaml."""
    case: type[Case]
    """Frozen dataclass that identifies a job. A field `seed` is the job's seed; fields that are None do not appear in
    names."""
    settings: Callable[[Section, Case], Settings]
    """Loads the settings of a case from the section, and nothing else; these are the stage's parameters in dvc.yaml."""
    run: Callable[[Job[Case, Settings]], Mapping[str, Any]]
    """Measures the case: fills the job's tables and arrays, and returns its metrics."""
    trains: bool = False
    """Whether it trains a network, and so can resume after an interruption."""
    writes: bool = True
    """Whether results are written here; False for a training that writes a network's folder itself."""
    processes: Callable[[Settings], int] = lambda settings: 1
    """Number of processes that share the job."""


def case_of(kind: type[Case], words: Sequence[str]) -> Case:
    """The case given by words such as `method=deq seed=0`.

    Raises:
        ConfigError: a field is missing, unknown, repeated or of the wrong type.
    """
    known = {each.name: each.default is MISSING for each in fields(cast(Any, kind))}
    needed = {name for name, required in known.items() if required}
    pairs = [word.partition("=") for word in words]
    given = {name for name, equals, _ in pairs if equals}
    if len(given) < len(words) or not needed <= given <= set(known):
        named = (f"{name}=..." if required else f"[{name}=...]" for name, required in known.items())
        wanted = f"the case as {' '.join(named)}" if known else "no case"
        raise ConfigError(f"expected {wanted}, got {' '.join(words) or 'nothing'}")
    return config.of_words(kind, {name: value for name, _, value in pairs})


def labels_of(case: object) -> dict[str, Any]:
    """The fields of a case that are not None, which name it."""
    return {name: value for name, value in asdict(cast(Any, case)).items() if value is not None}


def run_stage(
    stage: Stage[Case, Settings],
    words: Sequence[str],
    *,
    params: Path,
    section: str,
    package: str,
    data: Path,
    model: Path | None,
    out: Path,
    scratch: Path,
) -> None:
    """Runs one case of a stage and prints its metrics.

    Args:
        stage: the stage.
        words: the case, as words `name=value`.
        params: file with the section.
        section: path of the section, usually the stage's own.
        package: package whose code a training depends on, such as "deq_flow"; after a change of code, a training is
            not resumed.
        data: see `Job`.
        model: see `Job`.
        out: see `Job`.
        scratch: folder of all unfinished trainings.
    """
    case = case_of(stage.case, words)
    settings = stage.settings(Section(params, section), case)
    distributed.become(f"{package}.cli", sys.argv[1:], stage.processes(settings))
    labels = labels_of(case)
    said = settings if is_dataclass(settings) or isinstance(settings, Mapping) else {"settings": settings}
    weights = None if model is None else model / "model.safetensors" if model.is_dir() else model
    manifests = [file for file in identities(data) if file.name == "manifest.json"]
    kind = "train" if stage.trains else None
    run = partial(track, stage.name, said, out=out, kind=kind, case=labels, parent_of=weights, data=manifests)

    def job(log: Log, folder: Path = scratch) -> Job[Case, Settings]:
        return Job(case=case, settings=settings, data=data, model=model, out=out, scratch=folder, log=log)

    if not stage.trains:
        with run() as log:
            metrics = measured(stage, job(log))
    else:
        files = [file for place in (data, model) if place is not None for file in identities(place)]
        digest = fingerprint({"case": case, "settings": settings}, *files, package=package)
        name = "-".join(map(str, [stage.name.replace(".", "_"), *labels.values()]))
        with resumable(scratch, name, digest, out=out) as folder, run(scratch=folder) as log:
            metrics = measured(stage, job(log, folder))
    if distributed.rank() == 0:
        finish(flat(metrics))


def identities(place: Path) -> list[Path]:
    """The files that identify a folder of data or a network. Released data sets without a manifest have none."""
    if place.is_file():
        return [place]
    names = ("manifest.json", "*/manifest.json", "model.safetensors")
    return [file for name in names for file in sorted(place.glob(name))]


def measured(stage: Stage[Case, Settings], job: Job[Case, Settings]) -> Mapping[str, Any]:
    """Runs a job, logs and writes its metrics, and returns them; partial tables are saved if a value is not finite."""
    if not stage.writes:
        return stage.run(job)
    with rescued(job.out, tables(job.tables)):
        metrics = stage.run(job)
        numbers = flat(metrics)
        if broken := [f"{name} {value}" for name, value in numbers.items() if not math.isfinite(value)]:
            raise NonFiniteError(f"{stage.name}: expected finite metrics, got {', '.join(broken)}")
    job.log(numbers)
    job.write(metrics)
    return metrics


def flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Numbers in nested mappings, by dotted name."""
    return {name: float(value) for name, value in config.flatten(metrics).items()}
