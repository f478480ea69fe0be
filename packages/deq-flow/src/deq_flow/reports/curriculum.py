"""Report of the curriculum: the error after each stage."""

from collections.abc import Mapping
from typing import Any

from deq_core.experiment.study.measured import networks
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_flow.reports.errors import errors_table, over_seeds_by_set

STAGES = {"chairs": "methods", **{name: f"curriculum.{name}.methods" for name in ("things", "sintel", "kitti")}}
"""Stages in order, each with the key of its methods."""


def page(section: Section, results: Results) -> Page:
    """{"method, stage": {set: {metric: mean over seeds, metric_std: standard deviation}}}."""
    trained = {stage: networks(section, methods=key, seeds="seeds") for stage, key in STAGES.items()}
    followed = dict.fromkeys(each.network for stage in list(STAGES)[1:] for each in trained[stage])
    samples = {}
    for method in followed:
        for stage, measured in trained.items():
            if cases := [each for each in measured if each.network == method]:
                folder = "evaluate" if stage == "chairs" else f"evaluate_{stage}"
                samples[f"{method}, {stage}"] = results.by_case(folder, cases, "samples")
    values = over_seeds_by_set(samples)
    return Page(title="End-point error after each stage of the curriculum, px", metrics=values, parts=[table(values)])


def table(values: Mapping[str, Any]) -> str:
    """Table with one row for each method and stage, in the order of training."""
    order = list(STAGES)
    names = sorted(values, key=lambda name: order.index(name.split(", ")[1]))
    return (
        errors_table({name: values[name] for name in names}) if values else "No network was trained by the curriculum."
    )


REPORT = Report(name="flow.curriculum_report", section="flow", page=page)
