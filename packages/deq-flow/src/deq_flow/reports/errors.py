"""Errors on the labelled sets, by set and over seeds."""

from collections.abc import Mapping, Sequence

from deq_core.experiment.tables import Row, cell, markdown, over_seeds
from deq_flow.evaluation.evaluate import summary
from deq_flow.evaluation.sets import titles

Errors = Mapping[str, Mapping[str, Mapping[str, float]]]
"""{method: {set: {metric: mean over seeds, metric_std: standard deviation}}}, with `pairs` and `seeds` their number."""


def over_seeds_by_set(samples: Mapping[str, Sequence[Sequence[Row]]]) -> Errors:
    """Of sample rows of each method, a list a seed."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for method, seeds in samples.items():
        summaries = [summary(rows) for rows in seeds]
        found[method] = {}
        for name in summaries[0]:
            values = over_seeds([by_set[name] for by_set in summaries])
            pairs = values.pop("pairs")
            values.pop("pairs_std", None)
            found[method][name] = {"pairs": int(pairs), "seeds": len(summaries), **values}
    return found


def errors_table(values: Errors, metric: str = "epe", form: str = "{:.2f}") -> str:
    """A row a method, a column a set: mean ± standard deviation over seeds of one metric."""
    sets = titles(next(iter(values.values())))
    lines = [[method, *(cell(by_set[name], metric, form) for name in sets)] for method, by_set in values.items()]
    return markdown(["method", *sets.values()], lines, names=1)
