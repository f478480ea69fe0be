"""What reports of several tasks call splits, and the metric that a task is known by."""

from collections.abc import Iterable, Mapping

from deq_core.experiment.tables import cell

HEADLINES = {"top1": "top-1 accuracy", "miou": "mIoU", "ap50": "AP50"}
"""By name, its title."""
IMAGES = {"test": "test", "val": "validation", "train": "training"}
"""What the images of a split are called."""


def headline(names: Iterable[str]) -> str:
    """The one of these names of metrics that their task is known by."""
    known = set(names)
    return next(name for name in HEADLINES if name in known)


def entry(values: Mapping[str, float], key: str) -> str:
    """A value with its deviation; empty where there is none."""
    if key not in values:
        return ""
    return cell(values, key, "{:.1f}" if key in ("evaluations", "steps") else "{:.3f}")
