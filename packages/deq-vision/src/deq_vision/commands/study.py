"""The studies by name, and the commands over them."""

from pathlib import Path

from deq_core.experiment.study.registry import Studies

STUDIES = Studies(
    package="deq_vision",
    data=Path("data/vision"),
    stages={
        "stability-pretrain": "deq_vision.studies.stability:PRETRAIN",
        "stability-train": "deq_vision.studies.stability:TRAIN",
        "stability-evaluate": "deq_vision.studies.stability:EVALUATE",
    },
    reports={"stability": "deq_vision.reports.stability:REPORT"},
    sections={"vision": "deq_vision.params:Vision", "stability": "deq_vision.studies.stability:Stability"},
)
study, report, schema = STUDIES.study, STUDIES.report, STUDIES.schema
