"""Checkpoints that come with the package."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

SHIPPED: Mapping[str, str] = {}
"""Name to folder below this package's `checkpoints`, which has model.safetensors and config.json."""


def shipped_folder(name: str) -> Path:
    """Where the files of a shipped checkpoint lie. Wheels are unpacked when they are installed, so it is a folder."""
    return Path(str(resources.files("deq_vision"))) / "checkpoints" / SHIPPED[name]
