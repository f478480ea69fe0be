"""params.yaml as the tests see it: committed, whatever is edited in the folder to run other experiments.

Where the code of the folder does not take the committed file, both are being changed together: then it is the folder's.
"""

import subprocess
import tempfile
from pathlib import Path

from workflows.parameters import ParameterError, load

ROOT = Path(__file__).parents[1]


def committed(root: Path, folder: Path) -> Path:
    """The params.yaml that the tests of `root` see: its own, or the committed one, put into `folder`."""
    own = root / "params.yaml"
    shown = subprocess.run(["git", "show", "HEAD:./params.yaml"], cwd=root, capture_output=True)
    if shown.returncode != 0 or shown.stdout == own.read_bytes():  # a folder without history, or no edits
        return own
    path = folder / "params.yaml"
    path.write_bytes(shown.stdout)
    try:
        load(path, root / "workflows" / "schemas")
    except ParameterError:
        return own
    return path


_kept = tempfile.TemporaryDirectory(prefix="deq-params-")  # until the process ends
PARAMS = committed(ROOT, Path(_kept.name))
