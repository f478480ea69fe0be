"""Writes the report of a study: a page of text, tables and figures on all of its cases.

A study defines the page. Finding the tables of cases, tracking and writing are shared by all studies.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deq_core.experiment import config
from deq_core.experiment.commands import finish
from deq_core.experiment.data.arrays import read_arrays
from deq_core.experiment.errors import LayoutError
from deq_core.experiment.files import output_directory, write_json, write_text
from deq_core.experiment.study import plotting
from deq_core.experiment.study.stage import Section, labels_of
from deq_core.experiment.tables import Row, read_metrics, read_rows, write_rows
from deq_core.experiment.tracking.run import track

if TYPE_CHECKING:
    from deq_core.experiment.study.plotting import Figure


@dataclass(frozen=True)
class Results:
    """Results of the stages of a pipeline, in a folder."""

    folder: Path
    pipeline: str
    """Name of the pipeline; `snakemake PIPELINE` makes the results."""

    def rows(self, stage: str, cases: Iterable[object], table: str) -> list[Row]:
        """The rows of a table for all `cases` of a stage, each after the fields of its case.

        The parameters determine the cases, so results of an earlier, larger study are ignored.

        Raises:
            LayoutError: the results of a case are missing.
        """
        return [
            {**asdict(cast(Any, case)), **row}
            for case, folder in self._folders(stage, cases)
            for row in read_rows(folder / f"{table}.csv")
        ]

    def by_case(self, stage: str, cases: Iterable[object], table: str) -> list[list[Row]]:
        """The rows of a table, as one list for each case."""
        return [read_rows(folder / f"{table}.csv") for _, folder in self._folders(stage, cases)]

    def metrics(self, stage: str, case: object) -> dict[str, Any]:
        """The metrics of one case."""
        ((_, folder),) = self._folders(stage, [case])
        return read_metrics(folder / "metrics.json")

    def arrays(self, stage: str, case: object, name: str) -> dict[str, Any]:
        """The arrays of one case."""
        ((_, folder),) = self._folders(stage, [case])
        return read_arrays(folder / f"{name}.npz")

    def _folders(self, stage: str, cases: Iterable[object]) -> list[tuple[object, Path]]:
        found = [(case, self.folder / stage / folder_of(case)) for case in cases]
        if missing := [folder for _, folder in found if not folder.is_dir()]:
            raise LayoutError(
                f"{self.folder}: expected the results of {len(found)} cases of {stage}, but {len(missing)} are "
                f"missing, such as {missing[0].relative_to(self.folder)}; `snakemake {self.pipeline}` makes them",
                missing,
            )
        return found


def folder_of(case: object) -> str:
    """Name of a case's folder: its values joined by '-', like DVC's names of matrix items."""
    return "-".join(map(str, labels_of(case).values()))


@dataclass
class Page:
    """Content of a report."""

    title: str
    metrics: Mapping[str, Any]
    """Published numbers, in nested mappings."""
    headline: Mapping[str, Any] = field(default_factory=dict)
    """The few metrics by which runs are compared; one report of a pipeline has them."""
    parts: list[str] = field(default_factory=list)
    """Paragraphs and tables in Markdown."""
    figures: dict[str, "Figure"] = field(default_factory=dict)
    """Figures by name, placed after the text."""
    dpi: int = 120
    """Resolution of images in figures."""

    def write(self, out: Path) -> None:
        """Writes report.md, metrics.json and {figure}.svg to the folder `out`, atomically.

        Also writes {figure}.csv with the points of a figure's curves, and headline.json if there is a headline.
        """
        images = [f"![{name}]({name}.svg)" for name in self.figures]
        with output_directory(out) as folder:
            write_text(folder / "report.md", "\n\n".join([f"# {self.title}", *self.parts, *images]) + "\n")
            write_json(folder / "metrics.json", self.metrics)
            if self.headline:
                write_json(folder / "headline.json", self.headline)
            for name, figure in self.figures.items():
                plotting.save(figure, folder / f"{name}.svg", dpi=self.dpi)
                if points := plotting.points(figure):
                    write_rows(folder / f"{name}.csv", points)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of a study."""

    name: str
    """Name of its run, such as "flow.reuse_report"."""
    section: str
    """Section of params.yaml."""
    page: Callable[[Section, Results], Page]
    """Makes the page from the parameters, which determine the cases, and the cases' results."""


def write_report(report: Report, *, params: Path, section: str, results: Path, out: Path) -> None:
    """Writes the report to the folder `out` and prints its numbers of metrics and figures.

    Args:
        report: the report.
        params: file with the section.
        section: path of the section, usually the report's own.
        results: folder of the pipeline's results.
        out: folder of the page.
    """
    page = report.page(Section(params, section), Results(results, report.section))
    with track(report.name, {"title": page.title}, out=out):
        page.write(out)
    finish({"numbers": len(config.flatten(page.metrics)), "figures": len(page.figures)})
