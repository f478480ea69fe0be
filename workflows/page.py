"""All reports in results on one page: `python -m workflows.page`, or `make report`, writes results/report.html.

The page is self-contained and loads nothing from the network. For a pipeline that has not run it shows the command.
"""

import base64
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from deq_core.experiment.errors import UserError
from deq_core.experiment.files import write_text
from deq_core.experiment.tracking import provenance
from workflows.engines import graph
from workflows.publication import runs
from workflows.publication.claims import CLAIMS, Claim
from workflows.publish import REPORTS, ROOT

RESULTS = Path("results")
OUT = RESULTS / "report.html"
TITLES = {
    "flow": "Optical flow",
    "sequence": "Language models",
    "vision": "Images and videos",
    "stability": "More evaluations at test time than in training",
    "delta": "The delta rule",
}
"""Titles of pipelines, in the order of the page."""
IMAGE = re.compile(r"^!\[[^\]]*\]\((\w+\.svg)\)$", re.MULTILINE)
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
MARKDOWN.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0"><table>\n')
MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>\n")


@dataclass(frozen=True)
class Report:
    """The content of a report on the page; a report without text has not been made."""

    folder: Path
    title: str
    claim: Claim | None
    shows: Markup
    """What the run shows about the claim."""
    text: Markup
    figures: Sequence[tuple[str, str]]
    """Data URI and caption of each figure."""
    run: runs.Run | None


@dataclass(frozen=True)
class Pipeline:
    """The content of a pipeline on the page."""

    name: str
    title: str
    reports: Sequence[Report]
    runs: Sequence[runs.Run]

    @property
    def made(self) -> list[Report]:
        """The reports that have been made."""
        return [report for report in self.reports if report.text]


def main() -> int:
    """Writes the page and prints its path."""
    try:
        behind, fault = runs.behind(RESULTS), ""
    except UserError as error:
        behind, fault = {}, str(error)
        print(fault, file=sys.stderr)
    write_text(OUT, page(pipelines(behind), fault))
    print(f"The report: {OUT.resolve()}")
    return 0


def page(shown: Sequence[Pipeline], fault: str = "") -> str:
    """The HTML of the page.

    Args:
        shown: all pipelines.
        fault: why no runs are known, if so.
    """
    places = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    places.filters |= {"duration": duration, "markdown": html, "megabytes": megabytes}
    here = provenance.of_process()
    commit = here.get("mlflow.source.git.commit", "")[:10]
    return places.get_template("page.html").render(
        pipelines=shown,
        fault=fault,
        commit=f"{commit} with changes" if here.get("git.dirty") == "true" else commit,
        now=f"{datetime.now():%Y-%m-%d %H:%M}",
        timings=runs.timings,
        made_by=runs.made_by,
    )


def pipelines(behind: Mapping[Path, runs.Run]) -> list[Pipeline]:
    """All pipelines, with their known reports, made or not, and any others in results.

    Args:
        behind: the run that wrote each metrics.json.
    """
    known = {RESULTS / folder: name for name, (folder, _) in REPORTS.items()}
    others = {path.parent: "" for path in sorted(RESULTS.glob("*/**/report.md")) if path.parent not in known}
    found: dict[str, list[Report]] = {name: [] for name in TITLES}
    for folder, name in (known | others).items():
        found.setdefault(folder.parts[1], []).append(report(folder, CLAIMS.get(name), behind))
    return [
        Pipeline(
            name,
            TITLES.get(name, name),
            reports,
            sorted((run for path, run in behind.items() if path.parts[1] == name), key=lambda run: run.begun),
        )
        for name, reports in found.items()
    ]


def report(folder: Path, claim: Claim | None, behind: Mapping[Path, runs.Run]) -> Report:
    """The report in a folder."""
    if not (folder / "report.md").exists():
        return Report(folder, folder.as_posix(), claim, Markup(), Markup(), (), None)
    text = (folder / "report.md").read_text(encoding="utf-8")
    heading, _, rest = text.partition("\n")
    figures = [(picture(folder / name), caption(folder / name)) for name in IMAGE.findall(rest)]
    shows = html(shown(claim, folder / "metrics.json")) if claim else Markup()
    title = heading.removeprefix("# ")
    return Report(folder, title, claim, shows, html(IMAGE.sub("", rest)), figures, behind.get(folder / "metrics.json"))


def shown(claim: Claim, metrics: Path) -> str:
    """What the metrics of a report show; the user's own profile may lack what the sentences compare."""
    try:
        return claim.shows(json.loads(metrics.read_text(encoding="utf-8")))
    except (LookupError, ValueError) as error:
        lack = f"{type(error).__name__}: {error}"
        return f"See the tables below. The results of this profile lack a value for a summary ({lack})."


def html(text: str) -> Markup:
    """The HTML of Markdown, with headings below those of the page, and tables that scroll on their own."""
    tokens = MARKDOWN.parse(text)
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return Markup(MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}))


def picture(file: Path) -> str:
    """The data URI of an image, so that names inside SVG files do not clash."""
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"


def caption(figure: Path) -> str:
    """The caption of a figure in Snakemake's report, or its name if it has none."""
    file = ROOT / graph.caption(figure.as_posix())
    return " ".join(file.read_text(encoding="utf-8").split()) if file.exists() else figure.stem


def duration(seconds: float) -> str:
    """`4.2 s` or `1:02:03`; empty if it is not known."""
    if math.isnan(seconds):
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def megabytes(memory: float) -> str:
    """`512 MB`; empty if it is not known."""
    return "" if math.isnan(memory) else f"{memory:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
