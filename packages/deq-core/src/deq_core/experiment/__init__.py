"""Shared by all experiments of the repository: configuration, training, tracking, results and figures.

It may import the third-party packages of its extra. The rest of `deq_core` may not, and never imports it.
"""

import re
from importlib import metadata


def missing() -> list[str]:
    """Packages of deq-core's extra that are not installed; empty if deq-core itself is not installed as a package."""
    try:
        asked = metadata.requires("deq-core") or []
    except metadata.PackageNotFoundError:
        return []
    absent = []
    for name in (re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in asked if "extra ==" in one):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
    return absent


if absent := missing():
    raise ModuleNotFoundError(
        f"deq_core.experiment needs {', '.join(absent)}, not installed here: pip install 'deq-core[experiment]'"
    )
