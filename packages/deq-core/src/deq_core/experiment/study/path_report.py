"""Report on path independence: distances between answers, shares of converged samples, cost of solves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from statistics import median
from typing import Any

from deq_core.experiment.study import measured, plotting
from deq_core.experiment.study.paths import EVERY, SAFE, STARTS, WHOLE
from deq_core.experiment.study.plotting import Axes, Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.solves import PREFIX
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, cell, grouped, markdown, numbers, over_seeds

Found = Mapping[str, Mapping[str, Mapping[str, float]]]
"""{network: {set: {quantity: mean over seeds, quantity_std: standard deviation}}}."""
OF_STARTS = {"random": "a random state", "other": "another sample's state"}
DISTANCES = {"change": "k and 2k", "random": "zero and random", "other": "zero and another"}
PARTS, OTHERS, BLACK = (*plotting.PALETTE[:3], plotting.PALETTE[7]), plotting.PALETTE[3:6], plotting.PALETTE[6]


@dataclass(frozen=True)
class Unit:
    """Units of a domain's answers."""

    answer: str
    """Unit of distances between answers, such as "px"."""
    error: str
    """Error measure with its unit, such as "EPE, px"."""


def path_report(domain: str, unit: Unit) -> Report:
    """The report on all equilibrium networks of a domain's pipeline and all shipped ones."""

    def page(section: Section, results: Results) -> Page:
        found = measured.networks(section, methods="paths.methods", seeds="seeds", shipped="paths.shipped")
        return path_page(measured.by_network(found), results, "paths", unit)

    return Report(name=f"{domain}.paths_report", section=domain, page=page)


def path_page(
    networks: Mapping[str, Sequence[object]], results: Results, stage: str, unit: Unit, *, part: str | None = None
) -> Page:
    """Distances, radii, shares and curves of every network and set.

    Args:
        networks: {name: cases of the network, one for each seed}.
        results: results of the pipeline.
        stage: folder of the stage.
        unit: units of the answers.
        part: part of the stage's metrics; None for all.
    """
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    curves = {
        name: {table: results.by_case(stage, cases, table) for table in ("residuals", "answers")}
        for name, cases in networks.items()
    }
    for name, cases in networks.items():
        seeds = [results.metrics(stage, case) for case in cases]
        seeds = seeds if part is None else [of_seed[part] for of_seed in seeds]
        samples, answers = results.by_case(stage, cases, "samples"), curves[name]["answers"]
        metrics[name] = {
            key: over_seeds(
                [
                    {**of_seed[key], **medians(rows, key), **halfway(means, key, of_seed[key]["evaluations"])}
                    for of_seed, rows, means in zip(seeds, samples, answers, strict=True)
                ]
            )
            for key in seeds[0]
        }
    parts = [
        "Means ± standard deviation over seeds. The number of samples of a set is in brackets.",
        "## Error, and distances between answers",
        "Answers after 2N evaluations are compared with those after N, and with those from other starts. The median "
        "over samples is in brackets: a few samples with two solutions may dominate the mean.",
        answers_table(metrics, unit),
        "## Convergence",
        "The spectral radius of the map at the state of lowest residual, and the shares of samples that converged. "
        "`state` is the residual of all parts of the state together; `every part` is the largest of the parts' own.",
        convergence_table(metrics),
    ]
    if ended := solves_table(metrics, unit):
        parts += ["## Cost and error of solves to a tolerance", ended]
    return Page(
        title="Path independence",
        metrics=metrics,
        parts=parts,
        figures={"paths": figure(curves, unit)},
    )


def medians(samples: Sequence[Row], name: str) -> dict[str, float]:
    """{solver.distance.median: median over a set}, since a few samples with two solutions may dominate the mean."""
    of_set = [row for row in samples if row["set"] == name]
    distances = [column for column in of_set[0] if column.endswith(tuple(f".{each}" for each in ("change", *STARTS)))]
    found = {column: [row for row in of_set if row.get(column) is not None] for column in distances}
    return {f"{column}.median": median(numbers(rows, column)) for column, rows in found.items() if rows}


def halfway(answers: Sequence[Row], name: str, evaluations: float) -> dict[str, float]:
    """{solver.error_half: mean error over a set after N/2 of N evaluations}, if recorded."""
    rows = [row for row in answers if row["set"] == name and row["evaluation"] == evaluations / 2]
    return {f"{row['solver']}.error_half": numbers([row], "error")[0] for row in rows}


def answers_table(found: Found, unit: Unit) -> str:
    """Table of errors and distances between answers, means with medians in brackets, by network, set and solver."""
    lines = []
    for network, sets in found.items():
        for name, values in sets.items():
            for solver in solvers_of(values):
                errors = [
                    cell(values, key, "{:.3f}") if key in values else "-"
                    for key in (f"{solver}.{quantity}" for quantity in ("error_half", "error", "error_twice"))
                ]
                apart = [
                    f"{cell(values, key, '{:.2g}')} ({values[f'{key}.median']:.2g})" if key in values else "-"
                    for key in (f"{solver}.{quantity}" for quantity in ("change", *STARTS))
                ]
                lines.append(
                    [network, samples_of(name, values), solver, f"{values['evaluations']:.0f}", *errors, *apart]
                )
    distances = ("N to 2N", *(f"zero and {OF_STARTS[name]}" for name in STARTS))
    heads = ["N", f"{unit.error}, at N/2", "at N", "at 2N", *(f"{name}, {unit.answer}" for name in distances)]
    return markdown(["network", "samples", "solver", *heads], lines, names=3)


def convergence_table(found: Found) -> str:
    """Table of radii and shares converged within N, by network, set, solver and kind of residual."""
    lines, known = [], dict[float, None]()
    for network, sets in found.items():
        for name, values in sets.items():
            near = [cell(values, "radius", "{:.2f}"), percent(values, "contracting")]
            for solver, what in product(solvers_of(values), (WHOLE, EVERY)):
                shares = [key for key in values if key.startswith(f"{solver}.{what}.") and not key.endswith("_std")]
                shares.sort(key=lambda key: -tolerance(key))
                if shares:
                    lines.append(
                        [
                            network,
                            samples_of(name, values),
                            *near,
                            solver,
                            what,
                            *(percent(values, key) for key in shares),
                        ]
                    )
                    known.update({tolerance(key): None for key in shares})
    heads = [
        "radius, median",
        f"radius below {SAFE}, %",
        "solver",
        "residual of",
        *(f"to {each:g} within N, %" for each in known),
    ]
    return markdown(["network", "samples", *heads], lines, names=2)


def solves_table(found: Found, unit: Unit) -> str:
    """Table of cost and error of solves, by network, set, setting and tolerance; empty if there are none."""
    lines = []
    forms = {"evaluations": "{:.1f}", "ms": "{:.1f}", "converged": "{:.0f}", "error": "{:.3f}"}
    for network, sets in found.items():
        for name, values in sets.items():
            solves = {key.removeprefix(f"{PREFIX}."): value for key, value in values.items() if key.startswith(PREFIX)}
            solves |= {key: 100 * share for key, share in solves.items() if ".converged" in key}
            ends = [key.removesuffix(".ms").split(".", 1) for key in solves if key.endswith(".ms")]
            for setting, within in sorted(ends, key=lambda end: (end[0], -float(end[1]))):
                cells = [cell(solves, f"{setting}.{within}.{quantity}", form) for quantity, form in forms.items()]
                lines.append([network, f"{name} ({solves['samples']:.0f})", setting, within, *cells])
    heads = ["evaluations", "ms per sample", "converged, %", unit.error]
    return markdown(["network", "samples", "solver", "tolerance", *heads], lines, names=3) if lines else ""


def samples_of(name: str, values: Mapping[str, float]) -> str:
    """Name of a set with its number of samples."""
    return f"{name} ({values['samples']:.0f})"


def tolerance(key: str) -> float:
    """The tolerance in the name of a share, `solver.what.tolerance`."""
    return float(key.split(".", 2)[2])


def percent(values: Mapping[str, float], key: str) -> str:
    """A share with its standard deviation, in per cent."""
    return cell({name: 100 * share for name, share in values.items() if name.startswith(key)}, key, "{:.0f}")


def solvers_of(values: Mapping[str, float]) -> list[str]:
    """Solvers in the metrics of a set."""
    return [name.removesuffix(".change") for name in values if name.endswith(".change")]


def figure(curves: Mapping[str, Mapping[str, Sequence[Sequence[Row]]]], unit: Unit) -> Figure:
    """Residuals by part and distances between answers against evaluations; one row of panels for each network.

    Shows the first set of each network: geometric means over seeds, with a band of one standard deviation of
    logarithms. Colours stand for quantities, line styles for solvers. Panels in a column share their limits.
    """
    drawn, panels = plotting.figure(9.0, 3.0 * len(curves) + 0.8, rows=len(curves), columns=2, share="col")
    for number, (network, tables) in enumerate(curves.items()):
        residuals, answers = panels[2 * number : 2 * number + 2]
        name = tables["residuals"][0][0]["set"]
        first = {table: [[row for row in rows if row["set"] == name] for rows in of] for table, of in tables.items()}
        for (solver,), style in zip(grouped(first["residuals"][0], ("solver",)), cycle(plotting.STYLES)):
            rows = {
                table: [[row for row in one if row["solver"] == solver] for one in of] for table, of in first.items()
            }
            for place, (part,) in enumerate(grouped(rows["residuals"][0], ("part",))):
                colour = BLACK if part == WHOLE else PARTS[place % len(PARTS)]
                seeds = [[row for row in one if row["part"] == part] for one in rows["residuals"]]
                curve(residuals, seeds, "residual", label=f"{part}, {solver}", color=colour, linestyle=style)
            for (column, label), colour in zip(DISTANCES.items(), OTHERS, strict=True):
                curve(answers, rows["answers"], column, label=f"{label}, {solver}", color=colour, linestyle=style)
        residuals.set_ylabel("relative residual")
        answers.set_ylabel(f"distance of answers, {unit.answer}")
        for axes in (residuals, answers):
            axes.set_title(f"{network}, {name}")
            axes.set_xlabel("evaluations of f, k")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_yscale("log")
    plotting.legend(drawn)
    return drawn


def curve(axes: Axes, seeds: Sequence[Sequence[Row]], column: str, **look: Any) -> None:
    """Draws a column against evaluations where it is positive for all seeds, for a logarithmic axis."""
    known = [{row["evaluation"]: row[column] for row in rows if row.get(column)} for rows in seeds]
    steps = [step for step in known[0] if all(step in of_seed for of_seed in known)]
    points = [[{"evaluation": step, column: of_seed[step]} for step in steps] for of_seed in known]
    if steps:
        plotting.curve_of(axes, points, "evaluation", column, geometric=True, **look)
