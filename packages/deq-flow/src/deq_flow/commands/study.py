"""The studies by name, and the commands over them."""

from pathlib import Path

from deq_core.experiment.study.registry import Studies

STUDIES = Studies(
    package="deq_flow",
    data=Path("data/flow"),
    stages={
        "evaluate": "deq_flow.studies.table:EVALUATE",
        "baselines": "deq_flow.studies.table:BASELINES",
        "reuse": "deq_flow.studies.reuse:REUSE",
        "paths": "deq_flow.studies.paths:PATHS",
        "gradients": "deq_flow.studies.gradients:GRADIENTS",
        "training-costs": "deq_flow.studies.training_costs:COSTS",
        "delta-sweep": "deq_flow.studies.delta.sweep:SWEEP",
        "delta-convergence": "deq_flow.studies.delta.convergence:CONVERGENCE",
        "delta-sine": "deq_flow.studies.delta.sine:SINE",
        "delta-inr": "deq_flow.studies.delta.images:IMAGES",
    },
    reports={
        "table": "deq_flow.reports.table:REPORT",
        "curriculum": "deq_flow.reports.curriculum:REPORT",
        "reuse": "deq_flow.reports.reuse:REPORT",
        "paths": "deq_flow.reports.paths:REPORT",
        "gradients": "deq_flow.reports.gradients:REPORT",
        "training-costs": "deq_flow.reports.training_costs:REPORT",
        "delta-sweep": "deq_flow.reports.delta.sweep:REPORT",
        "delta-convergence": "deq_flow.reports.delta.convergence:REPORT",
        "delta-sine": "deq_flow.reports.delta.sine:REPORT",
        "delta-inr": "deq_flow.reports.delta.images:REPORT",
    },
    sections={"flow": "deq_flow.studies.flow:Flow", "delta": "deq_flow.studies.delta.section:Delta"},
)
study, report, schema = STUDIES.study, STUDIES.report, STUDIES.schema
