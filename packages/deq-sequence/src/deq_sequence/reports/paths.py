"""The report of path independence of language models."""

from deq_core.experiment.study.path_report import Unit, path_report

UNIT = Unit(answer="nats", error="loss, nats")
REPORT = path_report("sequence", UNIT)
