"""Writes the generated data of the pipeline: clutter digits and street videos."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.config import Kind
from deq_core.experiment.data.manifest import write_manifest
from deq_core.experiment.data.registry import ReleasedSets
from deq_core.experiment.files import output_directory
from deq_vision.data.mini.write_digits import MiniDigitsConfig, write_digits
from deq_vision.data.mini.write_street import MiniStreetConfig, write_street


@dataclass(frozen=True, kw_only=True)
class MiniSets:
    """Settings of the generated data sets."""

    digits: MiniDigitsConfig = field(default_factory=MiniDigitsConfig)
    street: MiniStreetConfig = field(default_factory=MiniStreetConfig)
    kind: Literal["mini"] = field(default="mini", repr=False)


Data = Annotated[MiniSets | ReleasedSets, Kind]
"""The section `data` of params.yaml: generated sets, or published ones."""


def write_mini(root: Path, config: MiniSets) -> None:
    """Writes the folders digits and street, and manifest.json, to `root`, completely or not at all.

    Raises:
        OutputError: `root` cannot be written.
    """
    with output_directory(root) as partial:
        write_digits(partial / "digits", config.digits)
        write_street(partial / "street", config.street)
        write_manifest(partial, config)
