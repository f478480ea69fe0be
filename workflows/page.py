"""All reports below results on one page: `python -m workflows.page`, or `make report`, writes results/report.html.

The page holds all that it shows and asks no other machine for anything. A pipeline that has not run is told with the
command that runs it.
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
from workflows import graph, runs
from workflows.claims import CLAIMS, Claim
from workflows.publish import REPORTS, ROOT

RESULTS = Path("results")
OUT = RESULTS / "report.html"
TITLES = {
    "flow": "Optical flow",
    "sequence": "Language models",
    "vision": "Images and videos",
    "stability": "Other evaluations than in training",
    "delta": "The delta rule",
}
"""Of pipelines, in the order of the page."""
IMAGE = re.compile(r"^!\[[^\]]*\]\((\w+\.svg)\)$", re.MULTILINE)
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
MARKDOWN.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0"><table>\n')
MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>\n")


@dataclass(frozen=True)
class Report:
    """What the page shows of a report; without text it has not been made."""

    folder: Path
    title: str
    claim: Claim | None
    shows: Markup
    """What this run shows."""
    text: Markup
    figures: Sequence[tuple[str, str]]
    """The address of each, which holds it all, and its caption."""
    run: runs.Run | None


@dataclass(frozen=True)
class Pipeline:
    """What it shows of a pipeline."""

    name: str
    title: str
    reports: Sequence[Report]
    runs: Sequence[runs.Run]

    @property
    def made(self) -> list[Report]:
        """Those of its reports that are there."""
        return [report for report in self.reports if report.text]


def main() -> int:
    """Writes the page and says where it is."""
    try:
        behind, fault = runs.behind(RESULTS), ""
    except UserError as error:
        behind, fault = {}, str(error)
        print(fault, file=sys.stderr)
    write_text(OUT, page(pipelines(behind), fault))
    print(f"The report: {OUT.resolve()}")
    return 0


def page(shown: Sequence[Pipeline], fault: str = "") -> str:
    """The page.

    Args:
        shown: all pipelines.
        fault: why no runs are known, if that is so.
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
    """All that there are, with the reports that are known, made or not, and others that lie below results.

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
    """That of a folder."""
    if not (folder / "report.md").exists():
        return Report(folder, folder.as_posix(), claim, Markup(), Markup(), (), None)
    text = (folder / "report.md").read_text(encoding="utf-8")
    heading, _, rest = text.partition("\n")
    figures = [(picture(folder / name), caption(folder / name)) for name in IMAGE.findall(rest)]
    shows = html(shown(claim, folder / "metrics.json")) if claim else Markup()
    title = heading.removeprefix("# ")
    return Report(folder, title, claim, shows, html(IMAGE.sub("", rest)), figures, behind.get(folder / "metrics.json"))


def shown(claim: Claim, metrics: Path) -> str:
    """What the numbers of a report say; a profile of one's own may lack what the sentences compare."""
    try:
        return claim.shows(json.loads(metrics.read_text(encoding="utf-8")))
    except (LookupError, ValueError) as error:
        return f"The tables below; they lack what the usual sentences compare ({type(error).__name__}: {error})."


def html(text: str) -> Markup:
    """Of Markdown; its headings are below those of the page, and tables have a place of their own to be wide in."""
    tokens = MARKDOWN.parse(text)
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return Markup(MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}))


def picture(file: Path) -> str:
    """An address that holds the whole image, so that no two images share names within them."""
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"


def caption(figure: Path) -> str:
    """What Snakemake's report says below it, too; without that its name."""
    file = ROOT / graph.caption(figure.as_posix())
    return " ".join(file.read_text(encoding="utf-8").split()) if file.exists() else figure.stem


def duration(seconds: float) -> str:
    """`4.2 s` or `1:02:03`; nothing where it is not known."""
    if math.isnan(seconds):
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def megabytes(memory: float) -> str:
    """`512 MB`; nothing where it is not known."""
    return "" if math.isnan(memory) else f"{memory:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
