"""The report of the cost of a training step with each adjoint."""

from deq_core.experiment.study.report import Report
from deq_core.experiment.study.training_costs_report import costs_page

REPORT = Report(name="sequence.training_costs_report", section="sequence", page=costs_page)
