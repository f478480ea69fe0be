"""Reports of path independence of MDEQ, for trained and shipped networks and those of the stability study."""

from itertools import product

from deq_core.experiment.config import Seed
from deq_core.experiment.study.path_report import Unit, path_page, path_report
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_vision.studies.stability import Method, Trained

UNIT = Unit(answer="logits", error="loss")


def stability_page(section: Section, results: Results) -> Page:
    """The page of all networks of the stability study."""
    methods, steps = section.load(tuple[Method, ...], "methods"), section.load(tuple[int, ...], "steps")
    seeds = section.load(tuple[Seed, ...], "seeds")
    cases = {f"{how}, N = {n}": [Trained(how, n, seed) for seed in seeds] for n, how in product(steps, methods)}
    return path_page(cases, results, "evaluate", UNIT, part="paths")


REPORT = path_report("vision", UNIT)
STABILITY_REPORT = Report(name="stability.paths_report", section="stability", page=stability_page)
