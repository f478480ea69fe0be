"""Manifest of a folder of generated data: one small file that identifies its content."""

from pathlib import Path

from deq_core.experiment.config import plain
from deq_core.experiment.data.contents import digest
from deq_core.experiment.files import write_json


def write_manifest(root: Path, config: object) -> None:
    """Writes manifest.json: the configuration, and size and SHA-256 of every file below `root`."""
    files = {
        path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": digest(path)}
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    write_json(root / "manifest.json", {"config": plain(config), "files": files})
