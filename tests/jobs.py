"""One case of a study's stage, measured as its command does it, without a command line and without MLflow."""

from pathlib import Path
from typing import Any

from deq_core.experiment.study.stage import Job, Single, Stage, measured
from deq_core.experiment.tracking.run import Log, ignore

ONLY = Single()


def done(
    stage: Stage[Any, Any],
    settings: Any,
    *,
    data: Path = Path("data"),
    model: Path | None = None,
    case: Any = ONLY,
    out: Path = Path("out"),
) -> tuple[dict[str, Any], Job[Any, Any]]:
    """The metrics of the case, and the job with its tables; nothing is written."""
    job = Job(case=case, settings=settings, data=data, model=model, out=out, scratch=out, log=ignore)
    return dict(stage.run(job)), job


def run(
    stage: Stage[Any, Any],
    case: object,
    settings: object,
    out: Path,
    *,
    data: Path = Path("data"),
    model: Path | None = None,
    scratch: Path = Path("scratch"),
    log: Log = ignore,
) -> Any:
    """Its metrics; what it found is in the folder `out`."""
    places = {"data": data, "model": model, "out": out, "scratch": scratch}
    return measured(stage, Job(case=case, settings=settings, log=log, **places))
