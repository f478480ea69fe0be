"""The report of the stability study: each network at the evaluations of its training, and the change beyond them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from deq_core.experiment.files import write_json, write_text
from deq_core.experiment.tables import statistic
from deq_vision.stability_params import Method
from deq_vision.stability_tables import CURVES, TITLES, StabilityTables


def report(tables: StabilityTables, figures: Sequence[str], *, longer: Sequence[int], out: Path) -> dict[str, float]:
    """Writes report.md and metrics.json to the folder `out`; figures are linked by name in `figures/`.

    Args:
        longer: evaluations beyond those of training at which changes are given, where the sweep goes so far.

    Returns:
        Means and standard deviations over seeds, `<split>.<method>-<N>.<metric>` and `..._at_<evaluations>_change`.
    """
    parts = [
        "# Tested with more evaluations than trained with",
        f"Means ± standard deviation over {tables.seeds} seeds. N: evaluations of f in training. Changes are those of "
        "each network against its own value at N.",
    ]
    values: dict[str, float] = {}
    for split in tables.splits:
        lines = [
            line(tables, split, steps, method, places(tables, steps, longer), values)
            for steps in tables.steps
            for method in tables.methods
        ]
        parts += [f"## Split {split}", table(heads(longer, tables.tested()[-1]), lines)]
    parts += [f"![{name}](figures/{name})" for name in figures]
    write_text(out / "report.md", "\n\n".join(parts) + "\n")
    write_json(out / "metrics.json", values)
    return values


def heads(longer: Sequence[int], last: float) -> list[str]:
    """Of the columns."""
    titles = [*(f"at N + {more}" for more in longer), f"at {last:g}"]
    return ["N", "gradient"] + [part for name in CURVES.values() for part in (f"{name} at N", *titles)]


def places(tables: StabilityTables, steps: int, longer: Sequence[int]) -> list[int | None]:
    """Numbers of evaluations at which changes are given; None where the sweep ends before."""
    last = int(tables.tested()[-1])
    return [steps + more if steps + more <= last else None for more in longer] + [last]


def line(
    tables: StabilityTables,
    split: str,
    steps: int,
    method: Method,
    at: Sequence[int | None],
    values: dict[str, float],
) -> list[str]:
    """A row of the table; its numbers go to `values` too."""
    cells = [str(steps), TITLES[method]]
    for metric in CURVES:
        seeds = tables.curves(steps, method, split, metric)
        form = "{:.1e}" if metric == "residual" else "{:.3f}"
        name = f"{split}.{method}-{steps}.{metric}"
        keep(values, name, [curve[steps - 1] for curve in seeds])
        cells.append(cell(values, name, form))
        for place in at:
            if place is None:
                cells.append("")
            elif metric == "residual":
                keep(values, f"{name}_at_{place}", [curve[place - 1] for curve in seeds])
                cells.append(cell(values, f"{name}_at_{place}", form))
            else:
                keep(values, f"{name}_at_{place}_change", [curve[place - 1] - curve[steps - 1] for curve in seeds])
                cells.append(cell(values, f"{name}_at_{place}_change", "{:+.3f}"))
    return cells


def keep(values: dict[str, float], name: str, seeds: Sequence[float]) -> None:
    """Puts the mean of the seeds under `name` into `values`, and their deviation where there are several."""
    found = statistic(seeds)
    values[name] = found.mean
    if found.n > 1:
        values[f"{name}_std"] = found.std


def cell(values: Mapping[str, float], name: str, form: str) -> str:
    """`0.51 ± 0.02`, or the bare mean of one seed."""
    text = form.format(values[name])
    return f"{text} ± {form.format(values[f'{name}_std']).lstrip('+')}" if f"{name}_std" in values else text


def overview(values: Mapping[str, float], split: str = "test") -> str:
    """Markdown of what `report` wrote to metrics.json: a row an N and gradient, at N and at the end of the sweep."""
    names = "\n".join(values)
    trained = re.findall(rf"^{split}\.(\w+)-(\d+)\.top1$", names, re.MULTILINE)
    last = max(int(place) for place in re.findall(r"\.top1_at_(\d+)_change$", names, re.MULTILINE))
    lines = []
    for method, steps in sorted(trained, key=lambda pair: int(pair[1])):
        name = f"{split}.{method}-{steps}"
        shown = {
            "top1": "{:.3f}",
            f"top1_at_{last}_change": "{:+.3f}",
            "residual": "{:.1e}",
            f"residual_at_{last}": "{:.1e}",
        }
        lines.append([steps, TITLES[method], *(cell(values, f"{name}.{key}", form) for key, form in shown.items())])
    heads = ["top-1 accuracy at N", f"change at {last}", "relative residual at N", f"at {last}"]
    return table(["N", "gradient", *heads], lines)


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown: two columns of names, then numbers."""
    rule = ["---", "---", *["---:"] * (len(header) - 2)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *lines))
