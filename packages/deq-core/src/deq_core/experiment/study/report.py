"""A report of a study: what all of its cases say together, as a page of text, tables and figures.

A study says what is on the page; finding the cases' tables, tracking and writing are here, once for all.
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
    """What the stages of a pipeline have left below a folder."""

    folder: Path
    pipeline: str
    """What makes them: `snakemake PIPELINE`."""

    def rows(self, stage: str, cases: Iterable[object], table: str) -> list[Row]:
        """The rows of a table of all `cases` of a stage, each behind the case's own fields.

        Raises:
            LayoutError: the results of a case are not there. Which cases there are is said by the parameters, so what
                an earlier, larger study left does not count.
        """
        return [
            {**asdict(cast(Any, case)), **row}
            for case, folder in self._folders(stage, cases)
            for row in read_rows(folder / f"{table}.csv")
        ]

    def by_case(self, stage: str, cases: Iterable[object], table: str) -> list[list[Row]]:
        """The same rows, a list for each case."""
        return [read_rows(folder / f"{table}.csv") for _, folder in self._folders(stage, cases)]

    def metrics(self, stage: str, case: object) -> dict[str, Any]:
        """The numbers of one case."""
        ((_, folder),) = self._folders(stage, [case])
        return read_metrics(folder / "metrics.json")

    def arrays(self, stage: str, case: object, name: str) -> dict[str, Any]:
        """The arrays of one case, for a figure."""
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
    """The name of a case's folder, as DVC names the item of a matrix: its values, joined by '-'."""
    return "-".join(map(str, labels_of(case).values()))


@dataclass
class Page:
    """A report."""

    title: str
    metrics: Mapping[str, Any]
    """Numbers, in mappings of any depth: what is published."""
    headline: Mapping[str, Any] = field(default_factory=dict)
    """The few of them that runs are compared by; a pipeline has them in one of its reports."""
    parts: list[str] = field(default_factory=list)
    """Paragraphs and tables, Markdown."""
    figures: dict[str, "Figure"] = field(default_factory=dict)
    """By name; they come after the text."""
    dpi: int = 120
    """Of images within figures."""

    def write(self, out: Path) -> None:
        """Writes report.md, metrics.json and {figure}.svg to the folder `out`, which appears whole.

        Of a figure with curves {figure}.csv has their points, and of a page with a headline headline.json has that.
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
    """Of its run: "flow.reuse_report"."""
    section: str
    """Of params.yaml."""
    page: Callable[[Section, Results], Page]
    """Made from the parameters that say which cases there are, and the tables these left."""


def write_report(report: Report, *, params: Path, section: str, results: Path, out: Path) -> None:
    """Writes the report to the folder `out` and prints how many numbers and figures it has.

    Args:
        report: what is on the page.
        params: the file with the section.
        section: the place of the section, usually the report's own.
        results: the folder of the pipeline's results.
        out: of the page.
    """
    page = report.page(Section(params, section), Results(results, report.section))
    with track(report.name, {"title": page.title}, out=out):
        page.write(out)
    finish({"numbers": len(config.flatten(page.metrics)), "figures": len(page.figures)})
