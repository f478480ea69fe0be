"""The commands of studies: one case of a stage, and the report of all cases."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import FILE, PARAMS, Positional, default
from deq_core.experiment.study.registry import Studies

STUDIES = Studies(
    package="deq_vision",
    stages={
        "stability-pretrain": "deq_vision.studies.stability:PRETRAIN",
        "stability-train": "deq_vision.studies.stability:TRAIN",
        "stability-evaluate": "deq_vision.studies.stability:EVALUATE",
    },
    reports={"stability": "deq_vision.reports.stability:REPORT"},
    sections={"vision": "deq_vision.params:Vision", "stability": "deq_vision.studies.stability:Stability"},
)


def study(
    stage: Annotated[str, Positional],
    case: Annotated[tuple[str, ...], Positional],
    out: Path,
    data: Path = Path("data/vision"),
    model: Annotated[Path | None, default("no network")] = None,
    params: Path = PARAMS,
    section: Annotated[str | None, default("the stage's own")] = None,
    scratch: Path = Path(".scratch"),
) -> None:
    """Measures one case of a stage of a study and writes its tables to OUT.

    A case is named as in `deq-vision study stability-train method=unrolled steps=3 seed=0`; `model` is the folder of
    the network that is measured, or whose weights a training starts from. An interrupted training resumes from its
    checkpoint below `scratch`.
    """
    places = {"data": data, "model": model, "out": out, "scratch": scratch}
    STUDIES.run(stage, case, params=params, section=section, **places)


def report(
    name: Annotated[str, Positional],
    results: Path,
    out: Path,
    params: Path = PARAMS,
    section: Annotated[str | None, default("the report's own")] = None,
) -> None:
    """Writes the report of a study, means and standard deviations over seeds with figures, to the folder OUT."""
    STUDIES.write_report(name, params=params, section=section, results=results, out=out)


def schema(section: Annotated[str, Positional], out: Annotated[Path, Positional, FILE]) -> None:
    """Writes the JSON schema of a section of params.yaml to OUT."""
    STUDIES.write_schema(section, out)
