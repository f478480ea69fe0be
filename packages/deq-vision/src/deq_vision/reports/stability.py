"""The report of the stability study: each network at the evaluations of its training, and the change beyond them."""

import re
from collections.abc import Mapping, Sequence
from itertools import product

from deq_core.experiment.config import Seed
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, cell, markdown, numbers, statistic
from deq_vision.studies.stability import Method, Trained

CURVES = {"top1": "top-1 accuracy", "loss": "loss", "residual": "relative residual"}
"""What is measured after each evaluation."""
TITLES: dict[Method, str] = {"implicit": "implicit gradient", "unrolled": "unrolled"}

Curves = dict[tuple[int, Method], list[list[Row]]]
"""Rows of one split after each evaluation at test time: by evaluations in training, N, and method; a list a seed."""


def page(section: Section, results: Results) -> Page:
    """Means and standard deviations over seeds: `<split>.<method>-<N>.<metric>` and `..._at_<evaluations>_change`."""
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
        title="Tested with more evaluations than trained with",
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
        f"Means ± standard deviation over {len(seeds)} seeds. N: evaluations of f in training. Changes are those of "
        "each network against its own value at N."
    ]
    for split in splits:
        written.parts += [f"## Split {split}", table(written.metrics, split, found[split], longer)]
    return written


def tested(found: Curves) -> list[float]:
    """Numbers of evaluations at which all networks were tested: 1, 2, ..."""
    return numbers(next(iter(found.values()))[0], "step")


def places(steps: int, longer: Sequence[int], last: int) -> list[int | None]:
    """Numbers of evaluations at which changes are given; None where the sweep ends before."""
    return [steps + more if steps + more <= last else None for more in longer] + [last]


def changes(split: str, found: Curves, longer: Sequence[int]) -> dict[str, float]:
    """The numbers of one split. A change is taken within a seed and then averaged."""
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
    """A row an N and gradient."""
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


def overview(values: Mapping[str, float], split: str = "test") -> str:
    """A row an N and gradient, at N and at the end of the sweep, made from the report's metrics."""
    names = "\n".join(values)
    trained = re.findall(rf"^{split}\.(\w+)-(\d+)\.top1$", names, re.MULTILINE)
    last = max(int(place) for place in re.findall(r"\.top1_at_(\d+)_change$", names, re.MULTILINE))
    shown = {
        "top1": "{:.3f}",
        f"top1_at_{last}_change": "{:+.3f}",
        "residual": "{:.1e}",
        f"residual_at_{last}": "{:.1e}",
    }
    lines = [
        [steps, TITLES[method], *(cell(values, f"{split}.{method}-{steps}.{key}", form) for key, form in shown.items())]
        for method, steps in sorted(trained, key=lambda pair: int(pair[1]))
    ]
    heads = ["top-1 accuracy at N", f"change at {last}", "relative residual at N", f"at {last}"]
    return markdown(["N", "gradient", *heads], lines, names=2)


def curves(found: Mapping[str, Curves]) -> Figure:
    """Accuracy, loss and residual of each split against evaluations at test time; a column an N."""
    first = next(iter(found.values()))
    trained = list(dict.fromkeys(steps for steps, _ in first))
    rows = [(split, metric) for split in found for metric in CURVES]
    columns = len(trained)
    figure, panels = plotting.figure(2.9 * columns, 2.3 * len(rows), rows=len(rows), columns=columns)
    for row, (split, metric) in enumerate(rows):
        shared = panels[row * columns : (row + 1) * columns]
        for axes, steps in zip(shared, trained, strict=True):
            for (n, method), seeds in found[split].items():
                if n == steps:
                    values = [numbers(rows, metric) for rows in seeds]
                    plotting.curve(axes, tested(found[split]), values, label=TITLES[method])
            axes.axvline(steps, color="grey", linestyle=":", linewidth=1)
            if metric == "residual":
                axes.set_yscale("log")
        limits = [axes.get_ylim() for axes in shared]
        for axes in shared:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        shared[0].set_ylabel(f"{CURVES[metric]}, {split}")
    for axes, steps in zip(panels[:columns], trained, strict=True):
        axes.set_title(f"{steps} evaluations in training")
    for axes in panels[-columns:]:
        axes.set_xlabel("evaluations of f at test time")
    panels[0].legend(loc="lower right")
    return figure


REPORT = Report(name="stability.report", section="stability", page=page)
