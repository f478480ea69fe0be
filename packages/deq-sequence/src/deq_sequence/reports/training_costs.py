"""The report of what a training step costs by each gradient."""

from deq_core.experiment.study.report import Report
from deq_core.experiment.study.training_costs_report import costs_page

REPORT = Report(name="sequence.training_costs_report", section="sequence", page=costs_page)
