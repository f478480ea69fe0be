"""Report of path independence of flow networks."""

from deq_core.experiment.study.path_report import Unit, path_report

UNIT = Unit(answer="px", error="EPE, px")
REPORT = path_report("flow", UNIT)
