"""The studies of a package by name, and the commands `study`, `report` and `schema`, which every package has.

A study is imported only when it is used.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deq_core.experiment import config
from deq_core.experiment.commands import FILE, PARAMS, Positional, default
from deq_core.experiment.config import ConfigError
from deq_core.experiment.files import write_json
from deq_core.experiment.study.stage import Stage, run_stage

if TYPE_CHECKING:
    from deq_core.experiment.study.report import Report


@dataclass(frozen=True, kw_only=True)
class Studies:
    """Stages, reports and sections by name, each as `module:ATTRIBUTE`. Commands are `study`, `report` and `schema`."""

    package: str
    """Import name of the package."""
    data: Path
    """Default folder of its data sets."""
    stages: Mapping[str, str]
    """{name: `Stage`}."""
    reports: Mapping[str, str]
    """{name: `Report`}."""
    sections: Mapping[str, str]
    """{section of params.yaml: its dataclass}."""

    def study(
        self,
        stage: Annotated[str, Positional],
        case: Annotated[tuple[str, ...], Positional],
        out: Path,
        data: Annotated[Path | None, default("data/ and the name of the program's domain")] = None,
        checkpoint: Annotated[Path | None, default("no network")] = None,
        params: Path = PARAMS,
        section: Annotated[str | None, default("the stage's own")] = None,
        scratch: Path = Path(".scratch"),
    ) -> None:
        """Runs one case of a stage of a study and writes its tables to OUT.

        The words of CASE choose the case, as in `study evaluate method=deq seed=0`; a stage with one case takes none.
        Run the same command again to resume an interrupted training from its checkpoint in `scratch`.

        Args:
            stage: name of the stage: {stages}.
            case: words that choose the case.
            out: a new folder, or the unchanged output of an earlier run, which is replaced.
            data: folder of the data sets.
            checkpoint: the network to measure, or to start a training from: a shipped name, a folder written by
                training, a weights file (.safetensors), or a released file.
            params: file with the parameters.
            section: section of that file.
            scratch: folder for the checkpoints of interrupted trainings.
        """
        wanted: Stage[Any, Any] = found(self.stages, stage, "stage of a study")
        run_stage(
            wanted,
            case,
            params=params,
            section=self.check(wanted.section, params, section),
            package=self.package,
            data=data or self.data,
            model=checkpoint,
            out=out,
            scratch=scratch,
        )

    def report(
        self,
        name: Annotated[str, Positional],
        results: Path,
        out: Path,
        params: Path = PARAMS,
        section: Annotated[str | None, default("the report's own")] = None,
    ) -> None:
        """Writes the report of a study to the folder OUT: tables of means and standard deviations, and figures.

        Args:
            name: name of the report: {reports}.
            results: folder of the pipeline's results, with a folder for each stage.
            out: a new folder, or the unchanged output of an earlier report, which is replaced.
            params: file with the parameters.
            section: section of that file.
        """
        from deq_core.experiment.study.report import write_report  # imports matplotlib, which takes a second

        wanted: Report = found(self.reports, name, "report")
        place = self.check(wanted.section, params, section)
        write_report(wanted, params=params, section=place, results=results, out=out)

    def schema(self, section: Annotated[str, Positional], out: Annotated[Path, Positional, FILE]) -> None:
        """Writes the JSON schema of a section of params.yaml to a file.

        Args:
            section: name of the section: {sections}.
            out: file to write.
        """
        write_json(out, config.schema(found(self.sections, section, "section")))

    def check(self, name: str, params: Path, section: str | None = None) -> str:
        """Checks the section `name` in the file `params`, and returns its path: `section` if given, otherwise `name`.

        Raises:
            ConfigError: any key of the section is unknown or has a wrong type, even one that the command does not read.
        """
        place = section or name
        config.check(found(self.sections, name, "section"), params, place)
        return place


def found(names: Mapping[str, str], name: str, kind: str) -> Any:
    """The object that a name stands for, imported.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in names:
        raise ConfigError(f"no {kind} is named {name!r}; there are {', '.join(names)}")
    module, _, attribute = names[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
