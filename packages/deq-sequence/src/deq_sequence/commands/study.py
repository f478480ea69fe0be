"""The studies by name, and their commands."""

from pathlib import Path

from deq_core.experiment.study.registry import Studies

STUDIES = Studies(
    package="deq_sequence",
    data=Path("data/sequence"),
    stages={
        "baselines": "deq_sequence.studies.perplexity:BASELINES",
        "evaluate": "deq_sequence.studies.perplexity:EVALUATE",
        "paths": "deq_sequence.studies.paths:PATHS",
        "training-costs": "deq_sequence.studies.training_costs:COSTS",
        "delta": "deq_sequence.studies.delta:DELTA",
    },
    reports={
        "perplexity": "deq_sequence.reports.perplexity:REPORT",
        "paths": "deq_sequence.reports.paths:REPORT",
        "training-costs": "deq_sequence.reports.training_costs:REPORT",
        "delta": "deq_sequence.reports.delta:REPORT",
    },
    sections={"sequence": "deq_sequence.studies.section:Sequence"},
)
study, report, schema = STUDIES.study, STUDIES.report, STUDIES.schema
