"""Writes the JSON schemas of params.yaml after a change of a dataclass: `python -m workflows.schemas`."""

import importlib
from pathlib import Path
from typing import Any

from deq_core.experiment import config
from deq_core.experiment.files import write_json
from deq_core.experiment.study.registry import found
from workflows.engines.parameters import SCHEMAS

PACKAGES = ("deq_flow", "deq_vision", "deq_sequence")


def sections() -> dict[str, Any]:
    """The dataclass of each section, by name."""
    tables = [importlib.import_module(f"{package}.commands.study").STUDIES.sections for package in PACKAGES]
    return {name: found(table, name, "section") for table in tables for name in table}


def main(folder: Path = SCHEMAS) -> None:
    """Writes SECTION.json for each section into `folder`."""
    for name, kind in sections().items():
        write_json(folder / f"{name}.json", config.schema(kind))


if __name__ == "__main__":
    main()
