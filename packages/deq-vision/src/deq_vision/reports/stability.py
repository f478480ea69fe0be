"""The report of the stability study: each network at its evaluations in training, and the change beyond them."""

import re
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from typing import Any

from deq_core.experiment.config import Seed
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, cell, markdown, numbers, statistic
from deq_vision.reports.headlines import IMAGES
from deq_vision.studies.stability import Method, Trained

CURVES = {"top1": "top-1 accuracy", "loss": "loss", "residual": "relative residual"}
"""Metrics after each evaluation, with their titles."""
TITLES: dict[Method, str] = {"implicit": "implicit gradient", "unrolled": "unrolled"}
STYLES: dict[Method, str] = {"implicit": "-", "unrolled": "--"}

Curves = dict[tuple[int, Method], list[list[Row]]]
"""Rows of one split after each evaluation at test time, by N (evaluations in training) and method, a list per seed."""


def page(section: Section, results: Results) -> Page:
    """The page, with means and standard deviations over seeds.

    Its numbers are `<split>.<method>-<N>.<metric>` and `..._at_<evaluations>_change`.
    """
    methods, steps = section.load(tuple[Method, ...], "methods"), section.load(tuple[int, ...], "steps")
    seeds, longer = section.load(tuple[Seed, ...], "seeds"), section.load(tuple[int, ...], "longer")
    splits = section.load(tuple[str, ...], "measure.splits")
    rows = {
        (n, method): results.by_case("evaluate", [Trained(method, n, seed) for seed in seeds], "steps")
        for n, method in product(steps, methods)
    }
    found = {
        split: {key: [[row for row in table if row["split"] == split] for table in of] for key, of in rows.items()}
        for split in splits
    }
    written = Page(
        title="More evaluations at test time than in training",
        metrics={name: value for split in splits for name, value in changes(split, found[split], longer).items()},
        figures={"curves": curves(found)},
        dpi=section.load(int, "dpi"),
    )
    last = len(tested(found[splits[0]]))
    written.headline = {
        f"{method}-{n}": {
            "top1": written.metrics[f"{splits[0]}.{method}-{n}.top1"],
            f"change at {last}": written.metrics[f"{splits[0]}.{method}-{n}.top1_at_{last}_change"],
        }
        for n, method in rows
    }
    written.parts = [
        f"Means ± standard deviation over {len(seeds)} seeds. N is the number of evaluations of f in training. Changes "
        "are relative to the same network's value at N."
    ]
    for split in splits:
        written.parts += [
            f"## {IMAGES[split].capitalize()} images",
            table(written.metrics, split, found[split], longer),
        ]
    return written


def tested(found: Curves) -> list[float]:
    """Numbers of evaluations of the sweep: 1, 2, ..."""
    return numbers(next(iter(found.values()))[0], "step")


def places(steps: int, longer: Sequence[int], last: int) -> list[int | None]:
    """Numbers of evaluations at which changes are reported; None beyond the end of the sweep."""
    return [steps + more if steps + more <= last else None for more in longer] + [last]


def changes(split: str, found: Curves, longer: Sequence[int]) -> dict[str, float]:
    """The numbers of one split; changes are computed for each seed, then averaged."""
    values: dict[str, float] = {}
    for (steps, method), seeds in found.items():
        for metric in CURVES:
            curves = [numbers(rows, metric) for rows in seeds]
            name = f"{split}.{method}-{steps}.{metric}"
            wanted = {name: [curve[steps - 1] for curve in curves]}
            for place in filter(None, places(steps, longer, len(curves[0]))):
                if metric == "residual":
                    wanted[f"{name}_at_{place}"] = [curve[place - 1] for curve in curves]
                else:
                    wanted[f"{name}_at_{place}_change"] = [curve[place - 1] - curve[steps - 1] for curve in curves]
            for key, of_seeds in wanted.items():
                values[key] = statistic(of_seeds).mean
                if len(of_seeds) > 1:
                    values[f"{key}_std"] = statistic(of_seeds).std
    return values


def table(values: Mapping[str, float], split: str, found: Curves, longer: Sequence[int]) -> str:
    """Table with one row per N and gradient."""
    last = len(tested(found))
    titles = [*(f"at N + {more}" for more in longer), f"at {last}"]
    lines = []
    for steps, method in found:
        cells = [str(steps), TITLES[method]]
        for metric in CURVES:
            form, ending = ("{:.1e}", "") if metric == "residual" else ("{:+.3f}", "_change")
            name = f"{split}.{method}-{steps}.{metric}"
            cells.append(cell(values, name, form.replace("+", "")))
            for place in places(steps, longer, last):
                cells.append("" if place is None else cell(values, f"{name}_at_{place}{ending}", form))
        lines.append(cells)
    heads = [part for name in CURVES.values() for part in (f"{name} at N", *titles)]
    return markdown(["N", "gradient", *heads], lines, names=2)


def overview(values: Mapping[str, float]) -> str:
    """Table from the report's metrics at N and at the end of the sweep, with one row per N, gradient and split."""
    names = "\n".join(values)
    trained = re.findall(r"^(\w+)\.(\w+)-(\d+)\.top1$", names, re.MULTILINE)
    last = max(int(place) for place in re.findall(r"\.top1_at_(\d+)_change$", names, re.MULTILINE))
    shown = {
        "top1": "{:.3f}",
        f"top1_at_{last}_change": "{:+.3f}",
        "loss": "{:.3f}",
        f"loss_at_{last}_change": "{:+.3f}",
        "residual": "{:.1e}",
        f"residual_at_{last}": "{:.1e}",
    }
    trained.sort(key=lambda found: (int(found[2]), found[1], list(IMAGES).index(found[0])))
    lines = [
        [
            *(steps, TITLES[method], IMAGES[split]),
            *(cell(values, f"{split}.{method}-{steps}.{key}", form) for key, form in shown.items()),
        ]
        for split, method, steps in trained
    ]
    ends = [head for name in CURVES.values() for head in (f"{name} at N", f"change at {last}")]
    return markdown(["N", "gradient", "images", *ends[:-1], f"at {last}"], lines, names=3)


def curves(found: Mapping[str, Curves]) -> Figure:
    """Accuracy and loss of each split against evaluations, and their change beyond N.

    Colours are values of N, line styles gradients, points the values at N. Lines are means over seeds. Changes have
    bands of one standard deviation; values have none, as theirs is that of the pretraining.
    """
    columns, metrics = 2 * len(found), ("top1", "loss")
    figure, panels = plotting.figure(3.2 * columns, 2.9 * len(metrics), rows=len(metrics), columns=columns)
    shades = dict(zip(dict.fromkeys(steps for steps, _ in next(iter(found.values()))), cycle(plotting.PALETTE)))
    for row, metric in enumerate(metrics):
        values, beyond = (panels[row * columns + half * len(found) :][: len(found)] for half in (0, 1))
        for split, of_split, at, past in zip(found, found.values(), values, beyond, strict=True):
            for (steps, method), seeds in of_split.items():
                label = f"N = {steps}, {TITLES[method]}"
                look: dict[str, Any] = {"color": shades[steps], "linestyle": STYLES[method]}
                measured = [numbers(rows, metric) for rows in seeds]
                mean = [statistic(of_seeds).mean for of_seeds in zip(*measured, strict=True)]
                plotting.curve(at, tested(of_split), [mean], label=label, marker="o", markevery=[steps - 1], **look)
                change = [[value - curve[steps - 1] for value in curve[steps - 1 :]] for curve in measured]
                plotting.curve(past, range(len(change[0])), change, label=label, **look)
            for axes, quantity in ((at, CURVES[metric]), (past, f"change of {CURVES[metric]}")):
                axes.set_title(f"{IMAGES[split]} images")
                axes.set_ylabel(quantity)
        for shared in (values, beyond):
            limits = [axes.get_ylim() for axes in shared]
            for axes in shared:
                axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for place, axes in enumerate(panels[-columns:]):
        axes.set_xlabel("evaluations of f at test time" if place < len(found) else "evaluations beyond N")
    plotting.legend(figure)
    return figure


REPORT = Report(name="stability.report", section="stability", page=page)
