"""The studies by name, and their commands."""

from pathlib import Path

from deq_core.experiment.study.registry import Studies

STUDIES = Studies(
    package="deq_vision",
    data=Path("data/vision"),
    stages={
        "baselines": "deq_vision.studies.scores:BASELINES",
        "evaluate": "deq_vision.studies.scores:EVALUATE",
        "stream": "deq_vision.studies.streaming:STREAM",
        "paths": "deq_vision.studies.paths:PATHS",
        "training-costs": "deq_vision.studies.training_costs:COSTS",
        "stability-pretrain": "deq_vision.studies.stability:PRETRAIN",
        "stability-train": "deq_vision.studies.stability:TRAIN",
        "stability-evaluate": "deq_vision.studies.stability:EVALUATE",
    },
    reports={
        "scores": "deq_vision.reports.scores:REPORT",
        "streaming": "deq_vision.reports.streaming:REPORT",
        "stability": "deq_vision.reports.stability:REPORT",
        "paths": "deq_vision.reports.paths:REPORT",
        "training-costs": "deq_vision.reports.training_costs:REPORT",
        "stability-paths": "deq_vision.reports.paths:STABILITY_REPORT",
    },
    sections={
        "vision": "deq_vision.studies.section:Vision",
        "stability": "deq_vision.studies.stability:Stability",
    },
)
study, report, schema = STUDIES.study, STUDIES.report, STUDIES.schema
