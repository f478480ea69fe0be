"""The report of the vision pipeline: networks beside baselines, streaming beside the converged baseline, figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deq_core.experiment.files import write_json, write_text
from deq_core.experiment.tables import cell
from deq_vision.tables import HEADLINES, MDEQ, Tables, headline, scores, streams

Metrics = dict[str, dict[str, dict[str, dict[str, float]]]]
"""{"scores" or "stream": {experiment: {method, or start and budget: {metric: value, metric_std}}}}"""
FURTHER = {
    "top5": "top-5",
    "accuracy": "pixel accuracy",
    "ap": "COCO AP",
    "map50": "VID mAP50",
    "loss": "loss",
    "residual": "relative residual",
    "steps": "evaluations",
}
"""Metrics beside the headline, in this order, where a method has them."""


def metrics(tables: Tables) -> Metrics:
    """All that the tables say, as means and standard deviations over seeds."""
    return {
        "scores": {name: scores(tables, name) for name in tables.evaluate},
        "stream": {name: streams(tables, name) for name in tables.stream},
    }


def report(tables: Tables, figures: Sequence[str], *, out: Path) -> Metrics:
    """Writes report.md and metrics.json to the folder `out`; figures are linked by name in `figures/`."""
    found = metrics(tables)
    seeds = max(int(values[MDEQ]["seeds"]) for values in found["scores"].values())
    parts = ["# Vision", f"Mean ± standard deviation over {seeds} seeds; baselines have no seed."]
    for name, methods in found["scores"].items():
        parts += [f"## {name}: {int(methods[MDEQ]['samples'])} images", score_table(methods)]
    for name, runs in found["stream"].items():
        parts += [f"## {name} on videos: {int(runs['converged']['frames'])} measured frames", stream_table(runs)]
    parts += [f"![{name}](figures/{name})" for name in figures]
    write_text(out / "report.md", "\n\n".join(parts) + "\n")
    write_json(out / "metrics.json", found)
    return found


def score_table(methods: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row a method, a column a metric."""
    first = headline(methods[MDEQ])
    shown = {first: HEADLINES[first], **{key: title for key, title in FURTHER.items() if key in methods[MDEQ]}}
    rows = [[name, *(entry(values, key) for key in shown)] for name, values in methods.items()]
    return table(["method", *shown.values()], rows)


def stream_table(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row a start and budget; the metric of all frames, of the protocol's and of those settled."""
    metric = headline(runs["converged"])
    shown = {
        "evaluations": "evaluations a frame",
        metric: f"{HEADLINES[metric]}, all frames",
        f"annotated_{metric}": "annotated frames",
        f"settled_{metric}": "settled frames",
        "residual": "relative residual",
    }
    return table(
        ["start", *shown.values()], [[name, *(entry(values, key) for key in shown)] for name, values in runs.items()]
    )


def overview(found: Metrics) -> str:
    """Markdown for the first page: of each experiment its best baseline and the networks, on images and on videos."""
    rows = []
    for name, methods in sorted(found["scores"].items()):
        metric = headline(methods[MDEQ])
        peers = {key: values[metric] for key, values in methods.items() if key != MDEQ}
        best = max(peers, key=lambda key: peers[key]) if peers else ""
        runs = found["stream"].get(name, {})
        videos = [entry(runs.get(run, {}), metric) for run in ("converged", "warm 1", "warm 4", "cold 1", "cold 4")]
        peer = f"{peers[best]:.3f} ({best})" if peers else ""
        rows.append([name, HEADLINES[metric], peer, entry(methods[MDEQ], metric), *videos])
    return table(
        ["task", "metric", "best baseline", MDEQ, "video, converged", "warm 1", "warm 4", "cold 1", "cold 4"], rows
    )


def entry(values: Mapping[str, float], key: str) -> str:
    """A value with its deviation; empty where there is none."""
    if key not in values:
        return ""
    return cell(values, key, "{:.1f}" if key in ("evaluations", "steps") else "{:.3f}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown: the first column is text, the others numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
