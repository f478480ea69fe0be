"""The report of the delta studies: what was saved at which loss, and what stopping earlier would have cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deq_core.experiment.files import write_json, write_text
from deq_core.experiment.tables import (
    Row,
    Value,
    cell,
    grouped,
    markdown,
    numbers,
    over_seeds,
    read_rows,
    spread,
    statistic,
)
from deq_flow.delta_tables import DeltaTables, rows, shared_of
from deq_flow.savings import Savings, savings

CASE = ("set", "variant", "start", "threshold", "max_steps")
"""The columns that tell the cases of a sweep apart."""

Settling = dict[str, dict[str, float]]
"""{subject: {p5, p50, p95 (steps), unsettled (share), and their deviations _std}}."""


def report(tables: DeltaTables, figures: Sequence[str], *, out: Path) -> dict[str, Any]:
    """Writes report.md and metrics.json to `out`; returns what metrics.json holds.

    That is {"name": mean over seeds} of the main numbers, under "savings" what was saved within which loss, and under
    "settling" when elements settled.
    """
    found, settled = savings(tables), settling(tables)
    parts = [
        "# The delta rule on equilibrium solves",
        "Means ± standard deviation over seeds; a shipped checkpoint is one network and has none. MACs: "
        "multiply-accumulates of the layers of the solved map, kernel area included. Release's count: as DeltaDEQ "
        "counts, without kernel area. Work is given in per cent of the longest dense solve.",
        "## Work saved within a loss",
        "Of the longest dense solve's MACs: by the largest threshold whose mean error (EPE; of images, PSNR) is within "
        "the bound of the dense solve's from the same start, and by a dense solve with fewer steps within that bound.",
        savings_table(found),
        "## Flow networks",
        flow_table(tables),
        "Dense rows treat the context once a solve (`hoisted`), as this package's own dense path does.",
        "## When elements settle",
        settling_table(settled),
        "## Sine",
        quality_table(tables.sine, "mse", "{:.1e}"),
        "## Images",
        quality_table(tables.images, "psnr", "{:.2f}"),
        training_table(tables.images),
        *(f"![{name}](figures/{name})" for name in figures),
    ]
    values: dict[str, Any] = {**means(tables), "savings": found, "settling": settled}
    write_text(out / "report.md", "\n\n".join(parts) + "\n")
    write_json(out / "metrics.json", values)
    return values


def savings_table(found: Savings, subjects: Sequence[str] | None = None) -> str:
    """A row a subject (all by default) and bound."""
    lines = [
        [subject, bound, *saved_cells(values, "", "threshold {}"), *saved_cells(values, "fewer_", "{} steps")]
        for subject, bounds in found.items()
        if subjects is None or subject in subjects
        for bound, values in bounds.items()
    ]
    return markdown(["subject", "loss up to", "saved by the rule, %", "at", "saved by fewer steps, %", "by"], lines)


def saved_cells(values: Mapping[str, float | str], prefix: str, form: str) -> list[str]:
    """The share, with its deviation where there is one, and how it was reached."""
    if f"{prefix}saved" not in values:
        return ["none within", ""]
    text = f"{values[f'{prefix}saved']:.1f}"
    if f"{prefix}saved_std" in values:
        text += f" ± {values[f'{prefix}saved_std']:.1f}"
    return [text, form.format(values[f"{prefix}way"])]


def flow_table(tables: DeltaTables) -> str:
    """A row a network, set, variant, start and threshold (or number of dense steps)."""
    lines = []
    for network, folders in tables.sweep.items():
        for key, group in grouped(shared_of(rows(folders, "sweep")), CASE).items():
            name, variant, start, threshold, steps = key
            line = [network, *(str(part) for part in (name, variant, start))]
            error = [spread(group, "epe", "{:.3f}"), spread(group, "f1_all", "{:.1f}")]
            if threshold is None:
                line += [f"dense, {steps} steps", *error, spread(group, "hoisted", "{:.1f}"), "", "", ""]
            else:
                work = [spread(group, column, "{:.1f}") for column in ("work", "release")]
                skipped = [spread(group, f"{part}_skipped", "{:.2f}") for part in ("elements", "pixels")]
                line += [f"{steps} steps, threshold {threshold:g}", *error, *work, *skipped]
            lines.append(line)
    heads = ["network", "set", "solver", "start", "evaluation", "EPE, px", "F1, %", "MACs, %", "release's, %"]
    return markdown([*heads, "elements skipped", "pixels skipped"], lines)


def settling(tables: DeltaTables) -> Settling:
    """Percentiles of the steps to settle for good, and the share that never did, of every study and part."""
    found: dict[str, list[Row]] = {}
    for network, folders in tables.convergence.items():
        for row in rows(folders, "distribution"):
            found.setdefault(f"flow, {network}, {row['set']}, {row['part']}", []).append(row)
    for kind, studies in (("sine", tables.sine), ("image", tables.images)):
        found |= {f"{kind}, {name}": rows(folders, "distribution") for name, folders in studies.items()}
    return {
        name: over_seeds(
            [
                {key: numbers([row], key)[0] for key in ("p5", "p50", "p95", "unsettled")}
                for row in own
                if row["criterion"] == "lasting"
            ]
        )
        for name, own in found.items()
    }


def settling_table(found: Settling) -> str:
    """A row a study and part."""
    lines = []
    for name, values in found.items():
        share = {f"never{key.removeprefix('unsettled')}": 100 * values[key] for key in values if "unsettled" in key}
        lines.append(
            [name, *(cell(values, part, "{:.1f}") for part in ("p5", "p50", "p95")), cell(share, "never", "{:.1f}")]
        )
    return markdown(["elements", "5 %", "50 %", "95 %", "never settled, %"], lines)


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
    for network, networks in tables.sweep.items():
        for key, group in grouped(rows(networks, "sweep"), CASE).items():
            name, variant, start, threshold, steps = key
            how = f"dense-{steps}" if threshold is None else f"{threshold:g}"
            for column in ("epe", "f1_all", "macs_saved", "release_saved"):
                if column in group[0]:
                    place = f"flow.{network}.{name}.{variant}.{start}.{how}.{column}"
                    found[place] = statistic(numbers(group, column)).mean
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
