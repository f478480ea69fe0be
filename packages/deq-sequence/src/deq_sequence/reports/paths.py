"""The report of path independence of language models."""

from deq_core.experiment.study.measured import by_network, networks
from deq_core.experiment.study.path_report import Unit, path_page
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section

UNIT = Unit(answer="nats", error="loss, nats")


def page(section: Section, results: Results) -> Page:
    """Of every model that is solved for its equilibrium, in nats a token."""
    measured = networks(section, methods="paths.methods", seeds="seeds", shipped="paths.shipped")
    return path_page(by_network(measured), results, "paths", UNIT)


REPORT = Report(name="sequence.paths_report", section="sequence", page=page)
