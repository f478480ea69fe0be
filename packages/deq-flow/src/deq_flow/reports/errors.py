"""Errors on the sets with ground truth, by set and over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from deq_core.experiment.tables import Row, cell, grouped, markdown, numbers, over_seeds
from deq_flow.evaluation.evaluate import summary
from deq_flow.evaluation.sets import titles

Errors = Mapping[str, Mapping[str, Mapping[str, float]]]
"""{method: {set: {metric: mean over seeds, metric_std: standard deviation}}}, and the numbers `pairs` and `seeds`."""


def over_seeds_by_set(samples: Mapping[str, Sequence[Sequence[Row]]]) -> Errors:
    """The errors from the rows of samples of each method, in one list for each seed."""
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
    """Table of mean ± standard deviation over seeds of one metric, by method and set."""
    sets = titles(next(iter(values.values())))
    lines = [[method, *(cell(by_set[name], metric, form) for name in sets)] for method, by_set in values.items()]
    return markdown(["method", *sets.values()], lines, names=1)


RESAMPLES = 4000
"""Number of bootstrap resamples of the scenes of a set."""


def scenes_of(seeds: Sequence[Sequence[Row]], name: str) -> dict[str, float]:
    """Mean EPE of each scene of a set, over its pairs and over seeds; a pair that is not from a video is a scene."""
    rows = [row for of_seed in seeds for row in of_seed if row["set"] == name]
    found = grouped([{"scene": str(row["name"]).rpartition("/")[0] or row["name"], **row} for row in rows], ("scene",))
    return {str(scene): float(np.mean(numbers(of_scene, "epe"))) for (scene,), of_scene in found.items()}


def differences(samples: Mapping[str, Sequence[Sequence[Row]]], method: str, peers: Sequence[str]) -> Errors:
    """{peer: {set: ...}}: `difference`, the EPE of a method minus that of each peer, px, as a mean over scenes.

    `low` and `high` are the 95 % interval of a bootstrap over scenes, and `scenes` is their number.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for peer in peers:
        found[peer] = {}
        for name in dict.fromkeys(str(row["set"]) for row in samples[method][0]):
            own, others = (scenes_of(samples[each], name) for each in (method, peer))
            apart = np.array([own[scene] - others[scene] for scene in own])
            drawn = np.random.default_rng(0).integers(len(apart), size=(RESAMPLES, len(apart)))
            low, high = np.quantile(apart[drawn].mean(axis=1), [0.025, 0.975])
            values = {"difference": apart.mean(), "low": low, "high": high, "scenes": len(apart)}
            found[peer][name] = {key: float(value) for key, value in values.items()}
    return found


def differences_table(values: Errors, method: str) -> str:
    """Table of differences, with intervals for several scenes, by peer and set; negative if the method is better."""
    first = next(iter(values.values()))
    sets, scenes = titles(first), {name: int(of_set["scenes"]) for name, of_set in first.items()}
    heads = [f"{title} ({scenes[name]} {'scene' if scenes[name] == 1 else 'scenes'})" for name, title in sets.items()]
    forms = {name: "{difference:+.2f}" + (" [{low:+.2f}, {high:+.2f}]" if scenes[name] > 1 else "") for name in sets}
    lines = [
        [f"{method} minus {peer}", *(form.format(**by_set[name]) for name, form in forms.items())]
        for peer, by_set in values.items()
    ]
    return markdown(["EPE, px", *heads], lines, names=1)
