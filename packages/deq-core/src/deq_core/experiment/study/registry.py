"""The studies of a package by name: what its commands `study`, `report` and `schema` do.

A study is imported when it is named.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deq_core.experiment import config
from deq_core.experiment.config import ConfigError
from deq_core.experiment.files import write_json
from deq_core.experiment.study.report import Report, write_report
from deq_core.experiment.study.stage import Stage, run_stage


@dataclass(frozen=True, kw_only=True)
class Studies:
    """Names, each with `module:ATTRIBUTE`."""

    package: str
    """Import name."""
    stages: Mapping[str, str]
    """A `Stage` each."""
    reports: Mapping[str, str]
    """A `Report` each."""
    sections: Mapping[str, str]
    """Of params.yaml, and the dataclass of each."""

    def run(self, name: str, case: Sequence[str], *, params: Path, section: str | None, **places: Any) -> None:
        """One case of a stage; see `run_stage`.

        Raises:
            ConfigError: nothing has that name, or a key of the section is unknown or of a wrong type, whether the stage
                reads it or not.
        """
        stage: Stage[Any, Any] = found(self.stages, name, "stage of a study")
        place = self._checked(stage.section, params, section)
        run_stage(stage, case, params=params, section=place, package=self.package, **places)

    def write_report(self, name: str, *, params: Path, section: str | None, results: Path, out: Path) -> None:
        """The report of a study; see `write_report`. Raises ConfigError as `run` does."""
        report: Report = found(self.reports, name, "report")
        place = self._checked(report.section, params, section)
        write_report(report, params=params, section=place, results=results, out=out)

    def write_schema(self, section: str, out: Path) -> None:
        """The JSON schema of a section of params.yaml. Raises ConfigError as `run` does."""
        write_json(out, config.schema(found(self.sections, section, "section")))

    def _checked(self, own: str, params: Path, section: str | None) -> str:
        place = section or own
        config.check(found(self.sections, own, "section"), params, place)
        return place


def found(names: Mapping[str, str], name: str, kind: str) -> Any:
    """What a name stands for, imported."""
    if name not in names:
        raise ConfigError(f"no {kind} is named {name!r}; there are {', '.join(names)}")
    module, _, attribute = names[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
