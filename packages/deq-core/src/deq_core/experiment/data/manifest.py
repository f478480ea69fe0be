"""Manifest of a folder of generated data: one small file that identifies its content."""

import hashlib
from pathlib import Path

from deq_core.experiment.config import plain
from deq_core.experiment.files import write_json


def write_manifest(root: Path, config: object) -> None:
    """Writes manifest.json: the configuration, and size and SHA-256 of every file below `root`."""
    files = {
        path.relative_to(root).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    write_json(root / "manifest.json", {"config": plain(config), "files": files})
