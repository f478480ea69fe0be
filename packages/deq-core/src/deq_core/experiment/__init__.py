"""What every experiment of the repository shares: configuration, training, tracking, results and figures.

It may import third-party packages, those of its extra; the solvers above it may not, and never import it.
"""

import re
from importlib import metadata


def missing() -> list[str]:
    """What the extra of the installed deq-core names and is not installed; nothing where deq-core is a bare folder."""
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
