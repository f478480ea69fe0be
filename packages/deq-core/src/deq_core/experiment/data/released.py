"""Location of a pipeline's data sets.

Released sets take hundreds of gigabytes and are not copied: the pipeline's folder has only `manifest.json`.
"""

import json
from pathlib import Path

from deq_core.experiment.errors import LayoutError
from deq_core.experiment.reading import decoding, read_bytes


def located(data: Path) -> Path:
    """The folder with the data sets of a pipeline: `data` itself, or the root in its manifest.

    Raises:
        LayoutError: the manifest is damaged.
    """
    manifest = data / "manifest.json"
    if not manifest.exists():
        return data  # not written by a pipeline
    content, again = read_bytes(manifest, LayoutError), "prepare the data again"
    with decoding(manifest, LayoutError, "a manifest as JSON", again):
        root = json.loads(content).get("root")
    if root is not None and (not isinstance(root, str) or "\0" in root):
        raise LayoutError(f"{manifest}: expected the path of a folder under root, got {root!r:.80}; {again}")
    return data if root is None else Path(root)
