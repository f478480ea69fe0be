"""The report of streaming: warm and cold starts on videos, and the converged baseline."""

from collections.abc import Mapping
from dataclasses import dataclass

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, markdown, numbers, over_seeds
from deq_vision.reports.headlines import HEADLINES, IMAGES, entry, headline
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.studies.streaming import Trained

Runs = Mapping[str, Mapping[str, float]]
"""{"warm 4": {metric: mean over seeds, metric_std, seeds, steps}} of an experiment's runs over videos."""


@dataclass(frozen=True)
class Found:
    """Results of an experiment, one list per seed."""

    summary: list[list[Row]]
    frames: list[list[Row]]

    @property
    def metric(self) -> str:
        """The headline metric."""
        return headline(self.summary[0][0])

    def runs(self) -> Runs:
        """Means and standard deviations over seeds."""
        by_run = [{run_name(row): plain_numbers(row) for row in rows} for rows in self.summary]
        return {
            name: {**over_seeds([run[name] for run in by_run]), "seeds": len(by_run), "steps": row["steps"]}
            for name, row in by_run[0].items()
        }


def page(section: Section, results: Results) -> Page:
    """The page, with means and standard deviations over seeds."""
    streamed, seeds = section.load(tuple[Name, ...], "streamed"), section.load(tuple[Seed, ...], "seeds")
    cases = {name: [Trained(name, seed) for seed in seeds] for name in streamed}
    every = {
        name: Found(*(results.by_case("stream", of, table) for table in ("summary", "frames")))
        for name, of in cases.items()
    }
    measured = section.load(dict[Name, StreamEvaluate], "stream")
    metrics = {name: of.runs() for name, of in every.items()}
    parts = [
        f"Mean ± standard deviation over {len(seeds)} seeds. A frame starts from the state of the previous frame "
        "(`warm`) or from zeros (`cold`) and gets the given number of evaluations of f; `converged` solves from zeros "
        "to convergence, and other runs stop each frame at a tolerance."
    ]
    for name, runs in metrics.items():
        frames_of = f"{int(runs['converged']['frames'])} measured frames of {IMAGES[measured[name].split]} videos"
        parts += [f"## {name}: {frames_of}", stream_table(runs)]
    return Page(
        title="Videos",
        metrics=metrics,
        parts=parts,
        figures={"budgets": budgets(every), "frames": frames(every)},
        dpi=section.load(Plot, "plot").dpi,
    )


def run_name(row: Mapping[str, object]) -> str:
    """Name of a run: its start and, unless converged or adaptive, its budget."""
    mode = str(row["mode"])
    return f"{mode} {row['steps']}" if mode in ("warm", "cold") else mode


def plain_numbers(row: Row) -> dict[str, float]:
    """The numbers of a row."""
    return {name: numbers([row], name)[0] for name, value in row.items() if not isinstance(value, str)}


def stream_table(runs: Runs) -> str:
    """Table with one row per start and budget: metrics of all frames, of the protocol's and of settled ones."""
    metric = headline(runs["converged"])
    shown = {
        "evaluations": "evaluations per frame",
        metric: f"{HEADLINES[metric]}, all frames",
        f"annotated_{metric}": "annotated frames",
        f"settled_{metric}": "settled frames",
        "residual": "relative residual",
    }
    lines = [[name, *(entry(values, key) for key in shown)] for name, values in runs.items()]
    return markdown(["start", *shown.values()], lines, names=1)


def budgets(every: Mapping[str, Found]) -> Figure:
    """Headline metric against evaluations per frame, by start.

    The converged baseline is a horizontal line, an adaptive run a point at its mean evaluations.
    """
    figure, panels = plotting.figure(4.5 * len(every), 3.5, columns=len(every))
    for axes, (name, of) in zip(panels, every.items(), strict=True):
        metric = of.metric
        by_mode = {
            mode: [[row for row in rows if row["mode"] == mode] for rows in of.summary]
            for mode in ("warm", "cold", "converged")
        }
        for mode in ("warm", "cold"):
            plotting.curve_of(axes, by_mode[mode], "steps", metric, label=mode)
        across = [[value, value] for rows in by_mode["converged"] for value in numbers(rows, metric)]
        plotting.curve(axes, (1, max(numbers(by_mode["warm"][0], "steps"))), across, label="converged")
        for run, values in of.runs().items():
            if run.partition(" ")[0] not in by_mode:
                spread = values.get(f"{metric}_std"), values.get("evaluations_std")
                axes.errorbar(values["evaluations"], values[metric], *spread, "o", capsize=2, label=run)
        axes.set_title(name)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("evaluations of f per frame")
        axes.set_ylabel(f"{HEADLINES[metric]}, all frames")
    plotting.legend(figure)
    return figure


def frames(every: Mapping[str, Found]) -> Figure:
    """Relative residual by frame index, and below it the headline metric, to show how a warm state settles."""
    figure, panels = plotting.figure(4.5 * len(every), 6.0, rows=2, columns=len(every))
    for (name, of), above, below in zip(every.items(), panels[: len(every)], panels[len(every) :], strict=True):
        for axes, key, title in ((above, "residual", "relative residual"), (below, of.metric, HEADLINES[of.metric])):
            for run in dict.fromkeys(map(run_name, of.frames[0])):
                if not run.startswith("cold"):
                    of_run = [[row for row in rows if run_name(row) == run] for rows in of.frames]
                    plotting.curve_of(axes, of_run, "frame", key, label=run, geometric=axes is above)
            axes.set_xlabel("frame of the video")
            axes.set_ylabel(title)
        above.set_title(name)
        above.set_yscale("log")
    plotting.legend(figure)
    return figure


REPORT = Report(name="vision.streaming_report", section="vision", page=page)
