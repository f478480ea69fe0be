"""Checkpoints that come with the package."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

SHIPPED: Mapping[str, str] = {}
"""Name to folder in `FOLDER`, which has model.safetensors and config.json."""

FOLDER = Path(str(resources.files("deq_vision"))) / "checkpoints"
"""Where the files lie: wheels are unpacked when they are installed."""
