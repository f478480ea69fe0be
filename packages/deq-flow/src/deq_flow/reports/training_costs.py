"""Report of the cost of a training step with each gradient."""

from deq_core.experiment.study.report import Report
from deq_core.experiment.study.training_costs_report import costs_page

REPORT = Report(name="flow.training_costs_report", section="flow", page=costs_page)
