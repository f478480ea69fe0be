"""The report of the delta studies: what was saved at which loss, and what stopping earlier would have cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deq_core.experiment.files import write_json, write_text
from deq_core.experiment.results import Row, Value, numbers, read_rows, statistic
from deq_flow.delta_plot import shared_of
from deq_flow.delta_tables import DeltaTables, rows

CASE = ("set", "variant", "start", "threshold", "max_steps")
"""The columns that tell the cases of a sweep apart."""


def report(tables: DeltaTables, figures: Sequence[str], *, out: Path) -> dict[str, float]:
    """Writes report.md and metrics.json to `out`; returns the means over seeds that metrics.json holds."""
    seeds = len(tables.sweep)
    parts = [
        "# The delta rule on equilibrium solves",
        f"Means ± standard deviation over {seeds} seeds. MACs: multiply-accumulates of the layers of the solved map, "
        "kernel area included. Release's count: as DeltaDEQ counts, without kernel area. Work is given in per cent of "
        "the longest dense solve.",
        "## Flow networks",
        flow_table(tables),
        "Dense rows treat the context once a solve (`hoisted`), as this package's own dense path does.",
        "## When elements settle",
        settling_table(tables),
        "## Sine",
        quality_table(tables.sine, "mse", "{:.1e}"),
        "## Images",
        quality_table(tables.images, "psnr", "{:.2f}"),
        training_table(tables.images),
        *(f"![{name}](figures/{name})" for name in figures),
    ]
    values = means(tables)
    write_text(out / "report.md", "\n\n".join(parts) + "\n")
    write_json(out / "metrics.json", values)
    return values


def flow_table(tables: DeltaTables) -> str:
    """A row a set, variant, start and threshold (or number of dense steps)."""
    lines = []
    for key, group in grouped(shared_of(rows(tables.sweep, "sweep")), CASE).items():
        name, variant, start, threshold, steps = key
        line = [str(part) for part in (name, variant, start)]
        error = [spread(group, "epe", "{:.3f}"), spread(group, "f1_all", "{:.1f}")]
        if threshold is None:
            line += [f"dense, {steps} steps", *error, spread(group, "hoisted", "{:.1f}"), "", "", ""]
        else:
            work = [spread(group, column, "{:.1f}") for column in ("work", "release")]
            skipped = [spread(group, f"{part}_skipped", "{:.2f}") for part in ("elements", "pixels")]
            line += [f"{steps} steps, threshold {threshold:g}", *error, *work, *skipped]
        lines.append(line)
    heads = ["set", "solver", "start", "evaluation", "EPE, px", "F1, %", "MACs, %", "release's, %"]
    return markdown([*heads, "elements skipped", "pixels skipped"], lines)


def settling_table(tables: DeltaTables) -> str:
    """Percentiles of the steps to settle for good, a row a study and part."""
    lines = []
    studies = {f"flow, {row['set']}, {row['part']}": row for row in rows(tables.convergence, "distribution")}
    for name in studies:
        chosen = [
            row
            for row in rows(tables.convergence, "distribution")
            if f"flow, {row['set']}, {row['part']}" == name and row["criterion"] == "lasting"
        ]
        lines.append([name, *settling_cells(chosen)])
    for kind, folders in (("sine", tables.sine), ("image", tables.images)):
        for name, own in folders.items():
            chosen = [row for row in rows(own, "distribution") if row["criterion"] == "lasting"]
            lines.append([f"{kind}, {name}", *settling_cells(chosen)])
    return markdown(["elements", "5 %", "50 %", "95 %", "never settled, %"], lines)


def settling_cells(group: Sequence[Row]) -> list[str]:
    """The percentiles, and the share that never settled."""
    cells = [spread(group, name, "{:.1f}") for name in ("p5", "p50", "p95")]
    return [*cells, spread([{"never": 100 * numbers([row], "unsettled")[0]} for row in group], "never", "{:.1f}")]


def quality_table(studies: Mapping[str, Sequence[Path]], quality: str, form: str) -> str:
    """A row a fit or representation, rule and threshold; the dense solve, also with fewer steps, first."""
    lines = []
    for name, folders in studies.items():
        steps = rows(folders, "steps")
        count = int(max(numbers(steps, "step")))
        for step in sorted({count, count // 2, count // 4} - {0}, reverse=True):
            chosen = [row for row in steps if row["step"] == step]
            lines.append([name, f"dense, {step} steps", spread(chosen, quality, form), f"{100 * step / count:.1f}", ""])
        for (rule, threshold), group in grouped(rows(folders, "thresholds"), ("rule", "threshold")).items():
            left = [
                {column: 100 * (1 - numbers([row], f"{column}_saved")[0]) for column in ("macs", "release")}
                for row in group
            ]
            cells = [spread(group, quality, form), spread(left, "macs", "{:.1f}"), spread(left, "release", "{:.1f}")]
            lines.append([name, f"{rule}, {threshold:g}", *cells])
    unit = {"mse": "mean squared error", "psnr": "PSNR, dB"}[quality]
    return markdown(["fit", "evaluation", unit, "MACs, %", "release's count, %"], lines)


def training_table(representations: Mapping[str, Sequence[Path]]) -> str:
    """A row a representation: the quality at the end of training, and the work of its solves."""
    lines = []
    for name, folders in representations.items():
        totals: list[dict[str, Value]] = []
        for folder in folders:
            history = read_rows(folder / "history.csv")
            sparse, dense = (sum(numbers(history, f"macs_{kind}")) for kind in ("sparse", "dense"))
            quality = numbers(history, "psnr")[-1]
            totals.append({"psnr": quality, "work": sparse / 1e9, "share": 100 * sparse / dense})
        cells = [
            spread(totals, column, form)
            for column, form in (("psnr", "{:.2f}"), ("work", "{:.1f}"), ("share", "{:.1f}"))
        ]
        lines.append([name, *cells])
    return markdown(["training", "PSNR, dB", "MACs of its solves, 10⁹", "of dense solves, %"], lines)


def means(tables: DeltaTables) -> dict[str, float]:
    """Main numbers, means over seeds, under one name each."""
    found: dict[str, float] = {}
    for key, group in grouped(rows(tables.sweep, "sweep"), CASE).items():
        name, variant, start, threshold, steps = key
        how = f"dense-{steps}" if threshold is None else f"{threshold:g}"
        for column in ("epe", "f1_all", "macs_saved", "release_saved"):
            if column in group[0]:
                found[f"flow.{name}.{variant}.{start}.{how}.{column}"] = statistic(numbers(group, column)).mean
    for study, folders in (("sine", tables.sine), ("image", tables.images)):
        quality = {"sine": "mse", "image": "psnr"}[study]
        for name, own in folders.items():
            steps = rows(own, "steps")
            last = [row for row in steps if row["step"] == max(numbers(steps, "step"))]
            found[f"{study}.{name}.dense.{quality}"] = statistic(numbers(last, quality)).mean
            for (rule, threshold), group in grouped(rows(own, "thresholds"), ("rule", "threshold")).items():
                for column in (quality, "macs_saved", "release_saved"):
                    value = statistic(numbers(group, column)).mean
                    found[f"{study}.{name}.{rule}.{threshold:g}.{column}"] = value
    return found


def grouped(table: Sequence[Row], by: Sequence[str]) -> dict[tuple, list[Row]]:
    """Rows that agree in the columns `by`, one a seed; a column that a row lacks is None."""
    groups: dict[tuple, list[Row]] = {}
    for row in table:
        groups.setdefault(tuple(row.get(name) for name in by), []).append(row)
    return groups


def spread(group: Sequence[Mapping[str, Value]], column: str, form: str) -> str:
    """`1.23 ± 0.04`, or the bare mean where there is one seed."""
    found = statistic(numbers(group, column))
    text = form.format(found.mean)
    return text if found.n == 1 else f"{text} ± {form.format(found.std)}"


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    rule = ["---"] * len(heads)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *lines))
