"""Names of splits and headline metrics in the reports."""

from collections.abc import Iterable, Mapping

from deq_core.experiment.tables import cell

HEADLINES = {"top1": "top-1 accuracy", "miou": "mIoU", "ap50": "AP50"}
"""Titles of the headline metrics by name."""
IMAGES = {"test": "test", "val": "validation", "train": "training"}
"""Names of the splits in the reports."""


def headline(names: Iterable[str]) -> str:
    """The headline metric among these names."""
    known = set(names)
    return next(name for name in HEADLINES if name in known)


def entry(values: Mapping[str, float], key: str) -> str:
    """A value with its standard deviation; empty if there is none."""
    if key not in values:
        return ""
    return cell(values, key, "{:.1f}" if key in ("evaluations", "steps") else "{:.3f}")
