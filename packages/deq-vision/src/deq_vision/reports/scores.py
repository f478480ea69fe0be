"""The report of scores: networks and baselines, metrics after each evaluation, learning curves."""

from collections.abc import Mapping
from dataclasses import dataclass

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, markdown, over_seeds, statistic_of
from deq_vision.baselines.params import Baseline
from deq_vision.evaluate import Evaluate
from deq_vision.reports.headlines import HEADLINES, IMAGES, entry, headline
from deq_vision.studies.scores import Peers, Trained

MDEQ = "MDEQ"
"""Name of the networks among the methods."""
FURTHER = {
    "top5": "top-5",
    "accuracy": "pixel accuracy",
    "ap": "COCO AP",
    "map50": "VID mAP50",
    "loss": "loss",
    "residual": "relative residual",
    "steps": "returned at evaluation",
}
"""Metrics besides the headline, in the order of the tables, for methods that have them."""
WIDTH = 3.2  # of a panel, inches

Methods = Mapping[str, Mapping[str, float]]
"""{method: {metric: mean over seeds, metric_std, seeds}}: the baselines, worst first, then the networks."""
Metrics = Mapping[str, Methods]
"""Methods by experiment."""


@dataclass(frozen=True)
class Found:
    """Results of an experiment."""

    methods: Methods
    histories: list[list[Row]]
    """Training histories, one list per seed."""
    steps: list[list[Row]]
    """Rows of metric and residual after each evaluation of f, one list per seed."""


def page(section: Section, results: Results) -> Page:
    """The page, with means and standard deviations over seeds."""
    trained, seeds = section.load(tuple[Name, ...], "trained"), section.load(tuple[Seed, ...], "seeds")
    compared = section.load(dict[Name, dict[str, Baseline]], "baselines")
    plot, measured = section.load(Plot, "plot"), section.load(dict[Name, Evaluate], "evaluate")
    every = {name: found(results, name, seeds, with_peers=name in compared) for name in trained}
    parts = [
        f"Mean ± standard deviation over {len(seeds)} seeds; baselines have no seed. A solve returns the state of "
        "lowest residual, which need not be the last one. `relative residual` and `returned at evaluation` are those "
        "of the returned state."
    ]
    for name, of in every.items():
        images = f"{int(of.methods[MDEQ]['samples'])} {IMAGES[measured[name].split]} images"
        parts += [f"## {name}: {images}", score_table(of.methods)]
    return Page(
        title="Images",
        metrics={name: of.methods for name, of in every.items()},
        headline={
            name: {key: of.methods[MDEQ][key] for key in HEADLINES if key in of.methods[MDEQ]}
            for name, of in every.items()
        },
        parts=parts,
        figures={
            "evaluations": evaluations(every),
            "learning_curves": learning_curves(every, plot),
            "scores": scores(every),
        },
        dpi=plot.dpi,
    )


def found(results: Results, name: Name, seeds: tuple[Seed, ...], *, with_peers: bool) -> Found:
    """Reads the results of an experiment."""
    cases = [Trained(name, seed) for seed in seeds]
    histories, steps = results.by_case("train", cases, "history"), results.by_case("evaluate", cases, "steps")
    runs = [results.metrics("evaluate", case) for case in cases]
    peers = results.metrics("baselines", Peers(name)) if with_peers else {}
    methods = dict(sorted(peers.items(), key=lambda item: item[1][headline(item[1])]))
    return Found({**methods, MDEQ: {**over_seeds(runs), "seeds": len(runs)}}, histories, steps)


def score_table(methods: Methods) -> str:
    """Table with one row per method and one column per metric."""
    first = headline(methods[MDEQ])
    shown = {first: HEADLINES[first], **{key: title for key, title in FURTHER.items() if key in methods[MDEQ]}}
    lines = [[name, *(entry(values, key) for key in shown)] for name, values in methods.items()]
    return markdown(["method", *shown.values()], lines, names=1)


def overview(metrics: Metrics, streams: Metrics) -> str:
    """Table for the first page: best baseline and networks of each experiment, on images and on videos.

    Args:
        metrics: metrics of this report.
        streams: metrics of the report on streaming.
    """
    lines = []
    for name, methods in sorted(metrics.items()):
        metric = headline(methods[MDEQ])
        peers = {key: values[metric] for key, values in methods.items() if key != MDEQ}
        best = max(peers, key=lambda key: peers[key]) if peers else ""
        runs = streams.get(name, {})
        videos = [entry(runs.get(run, {}), metric) for run in ("converged", "warm 1", "warm 4", "cold 1", "cold 4")]
        peer = f"{peers[best]:.3f} ({best})" if peers else ""
        lines.append([name, HEADLINES[metric], peer, entry(methods[MDEQ], metric), *videos])
    heads = ["task", "metric", "best baseline", MDEQ, "video, converged", "warm 1", "warm 4", "cold 1", "cold 4"]
    return markdown(heads, lines, names=1)


def learning_curves(every: Mapping[str, Found], plot: Plot) -> Figure:
    """Training loss and headline metric on the validation split against the update, one column per experiment.

    Lines are means over seeds, bands one standard deviation.
    """
    figure, panels = plotting.figure(WIDTH * len(every), 5.0, rows=2, columns=len(every))
    for (name, of), above, below in zip(every.items(), panels[: len(every)], panels[len(every) :], strict=True):
        smooth = [plotting.smoothed(rows, ("step", "task_loss"), plot.smoothing) for rows in of.histories]
        plotting.curve_of(above, smooth, "step", "task_loss", label=name)
        metric = headline(key.removeprefix("val_") for row in of.histories[0] for key in row)
        plotting.curve_of(below, of.histories, "step", f"val_{metric}", label=name)
        above.set_title(name)
        above.set_ylabel("loss of training batches")
        below.set_ylabel(f"{HEADLINES[metric]}, validation split")
        below.set_xlabel("update")
    return figure


def scores(every: Mapping[str, Found]) -> Figure:
    """The headline metric of networks and baselines; error bars are one standard deviation over seeds."""
    figure, panels = plotting.figure(WIDTH * len(every), 3.5, columns=len(every))
    for axes, (name, of) in zip(panels, every.items(), strict=True):
        metric = headline(of.methods[MDEQ])
        groups = {method: {metric: statistic_of(values, metric)} for method, values in of.methods.items()}
        plotting.bars(axes, groups)
        axes.set_title(name)
        axes.set_ylabel(HEADLINES[metric])
        axes.tick_params(axis="x", rotation=30)
    return figure


def evaluations(every: Mapping[str, Found]) -> Figure:
    """Headline metric, and below it the relative residual, after each evaluation of f at test time."""
    figure, panels = plotting.figure(WIDTH * len(every), 5.0, rows=2, columns=len(every))
    for (name, of), above, below in zip(every.items(), panels[: len(every)], panels[len(every) :], strict=True):
        metric = headline(of.steps[0][0])
        plotting.curve_of(above, of.steps, "step", metric, label=name)
        plotting.curve_of(below, of.steps, "step", "residual", label=name, geometric=True)
        above.set_title(name)
        above.set_ylabel(HEADLINES[metric])
        below.set_ylabel("relative residual")
        below.set_yscale("log")
        below.set_xlabel("evaluations of f at test time")
    return figure


REPORT = Report(name="vision.report", section="vision", page=page)
