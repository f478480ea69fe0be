"""The page of all reports: complete, of one file, and true to the results as they are now."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from html import unescape
from math import isnan
from pathlib import Path

import pytest
from tests.browser import page as in_browser

from deq_core.experiment.study.path_report import Unit
from deq_core.experiment.tracking.run import track
from workflows.page import OUT, TITLES, main
from workflows.publication import findings, runs
from workflows.publication.claims import CLAIMS
from workflows.publish import REPORTS

WIDTHS = (390, 1200)
"""Pixels of a phone and of a desk."""
FIGURE = '<svg xmlns="http://www.w3.org/2000/svg" width="1500" height="300"><rect width="1500" height="300"/></svg>'
COLUMNS = [f"quantity {number}" for number in range(30)]
TABLE = "\n".join(f"| {' | '.join(cells)} |" for cells in (COLUMNS, ["---"] * 30, ["3.25"] * 30))
TEXT = f"# Flow of everything\n\n{TABLE}\n\n## By <b>size</b>\n\nWords.\n\n![epe](epe.svg)\n"
ERRORS = {"deq": 2.0, "raft": 3.0, "dis": 1.0, "dis_fine": 0.5, "zero": 4.0}
REPORT = Path("results/flow/report/table")
MEASURE = """
<iframe src="{address}" width="390" height="800"></iframe><iframe src="{address}" width="1200" height="800"></iframe>
<pre></pre><script>
const places = [...document.querySelectorAll("iframe")];
onload = () => {{ document.querySelector("pre").textContent = JSON.stringify(places.map((place) => {{
  const frame = place.contentWindow, page = frame.document, right = (it) => it.getBoundingClientRect().right;
  return {{
    width: page.documentElement.scrollWidth,
    images: [...page.images].map((image) => [image.naturalWidth, right(image)]),
    tables: [...page.querySelectorAll(".table")].map((table) => [table.scrollWidth > table.clientWidth, right(table)]),
    asked: frame.performance.getEntriesByType("resource").map((entry) => entry.name),
  }};
}})); }};
</script>
"""


@pytest.fixture
def results(tracking_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which one report was made by a tracked stage, with a wide table and a wide figure."""
    monkeypatch.setenv("DVC_STAGE", "flow_table_report")
    tags = {"profile": "mini", "mlflow.source.git.commit": "0123456789abcdef"}
    with track("flow.report", {"dpi": 75}, out=REPORT, tags=tags):
        REPORT.mkdir(parents=True)
        (REPORT / "report.md").write_text(TEXT)
        (REPORT / "epe.svg").write_text(FIGURE)
        errors: dict[str, dict] = {name: {"sintel_clean": {"epe": error}} for name, error in ERRORS.items()}
        errors["deq less"] = {"raft": {"sintel_clean": {"scenes": 2, "high": -0.5}}}
        (REPORT / "metrics.json").write_text(json.dumps(errors))
    return tracking_database.parent


def test_what_jobs_cost_is_told_by_pipeline_with_what_is_spent_around_their_programs() -> None:
    def ran(stage: str, cpu: float, megabytes: float) -> runs.Run:
        return runs.Run("", stage, "", datetime.min, seconds=9.0, cpu=cpu, memory=megabytes, made_by={})

    pipelines = {
        "flow": {"flow_train deq-0": 600.0, "flow_train deq-1": 540.0, "flow_download": 60.0},
        "delta": {"delta_sine a": 30.0},
    }
    found = runs.costs(pipelines, [ran("flow_train", 550.0, 900.0), ran("flow_train", 533.0, 1000.0)])
    assert found["flow"] == {
        "jobs": 3,
        "minutes": 20,
        "longest": "flow_train deq-0",
        "longest_minutes": 10,
        "gigabytes": 1.0,
        "around": pytest.approx(0.05),  # of the trainings: no run tells what the program of the download took
    }
    assert isnan(found["delta"]["around"])


def written() -> str:
    """The page that the command writes."""
    assert main() == 0
    return unescape(OUT.read_text())


def test_every_report_has_what_a_paper_says_and_where() -> None:
    assert set(CLAIMS) == set(REPORTS)
    assert all(claim.says and claim.source for claim in CLAIMS.values())


def test_a_report_is_shown_whole_with_claim_finding_run_and_time(results: Path) -> None:
    text = written()
    assert CLAIMS["flow"].says in text
    assert "the error of DEQ-Flow is 0.50 of that of zero flow" in text
    assert text.count("<td>3.25</td>") == len(COLUMNS)
    assert re.search(r'<img src="data:image/svg\+xml;base64,[\w+/]+=*" alt="End-point error on the sets', text)
    assert re.search(r'<a href="http://127.0.0.1:5000/#/experiments/1/runs/[0-9a-f]{32}">flow_table_report</a>', text)
    assert re.search(r"<td>flow_table_report</td><td>1</td><td>[\d.:]+( s)?</td>", text)
    told = dict(re.findall(r"<dt>(.*?)</dt><dd>(.+?)</dd>", text))
    assert (told["profile"], told["commit"]) == ("mini", "0123456789")
    assert {"versions", "machine", "when"} <= told.keys()


def test_what_has_not_run_is_told_with_its_command(results: Path) -> None:
    text = written()
    for name in TITLES.keys() - {"flow"}:
        assert f"This pipeline has not run: <code>make reproduce TARGET={name}</code>" in text
    others = [name for name in REPORTS if name.partition("_")[0] == "flow" and name != "flow"]
    assert text.count("Not made: <code>make reproduce TARGET=flow</code>") == len(others)


def test_a_report_that_no_paper_speaks_of_is_shown_too(results: Path) -> None:
    own = Path("results/flow/report/own/report.md")
    own.parent.mkdir()
    own.write_text("# Something else\n\nNew words.\n")
    assert re.search(r"<h3>Something else</h3>\s*<p>New words.</p>", written())


def test_no_run_is_named_of_a_file_that_was_changed_since(results: Path) -> None:
    (REPORT / "metrics.json").write_text("{}")
    text = written()
    assert "/runs/" not in text
    assert "The tracking store has no run that wrote these files." in text
    assert "The results of this profile lack a value for a summary (KeyError: 'deq')" in text


def test_a_store_that_cannot_be_read_is_told_and_the_page_is_there(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "text.db").write_text("no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///text.db")
    text = written()
    fault = capsys.readouterr().err.strip()
    assert "text.db" in fault
    assert fault in text
    assert "Flow of everything" in text


def test_a_checkout_without_any_result_gets_a_page_and_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert written().count("This pipeline has not run") == len(TITLES)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.slow
def test_the_page_fits_a_phone_and_a_desk_and_asks_for_nothing(results: Path, tmp_path: Path) -> None:
    written()
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE.format(address=OUT))
    document = in_browser(frame.as_uri(), tmp_path / "profile")
    found = re.search(r"<pre>(.+)</pre>", document)
    assert found is not None, document[:2000]
    for width, measured in zip(WIDTHS, json.loads(unescape(found[1])), strict=True):
        assert measured["width"] <= width
        assert [natural for natural, _ in measured["images"]] == [1500]
        assert all(right <= width for _, right in [*measured["images"], *measured["tables"]])
        assert measured["tables"][0][0], "a wide table scrolls within itself"
        assert [name for name in measured["asked"] if not name.startswith("data:")] == []


PATH = {"plain.error": 1.5, "plain.error_twice": 1.25, "plain.change": 0.125, "plain.random": 0.5}
CHOSEN = {"saved": 60.0, "kept_saved": 40.0, "exact": 10.0, "lost": 0.05, "fewer_saved": 50.0, "fewer_lost": 0.05}


@pytest.mark.parametrize(
    ("shows", "found", "sentence"),
    [
        pytest.param(
            partial(findings.paths, Unit("px", "EPE, px")),
            {"deq": {"sintel": PATH}},
            "- `deq` on sintel, plain: twice the evaluations change answers by 0.12 px and their error (EPE, px) "
            "from 1.500 to 1.250; answers from zero and from a random state differ by 0.5 px",
            id="paths",
        ),
        pytest.param(
            findings.vision,
            {"digits": {"worse": {"top1": 0.1}, "better": {"top1": 0.2}, "MDEQ": {"top1": 0.5, "loss": 1.0}}},
            "- digits, top-1 accuracy: MDEQ 0.500; best baseline (better) 0.200",
            id="vision",
        ),
        pytest.param(
            findings.settling,
            {
                "settling": {
                    "flow, a": {"p5": 1.0, "p50": 3.0, "p95": 9.0, "unsettled": 0.0},
                    "flow, b": {"p5": 1.0, "p50": 4.0, "p95": 8.0, "unsettled": 0.25},
                }
            },
            "- Of the elements of a state, 5 % by step 1, 50 % by step 3 to 4, 95 % by step 8 to 9 have settled; "
            "0 to 25 % never do.",
            id="settling",
        ),
        pytest.param(
            findings.sequence_delta,
            {"savings": {"deq, plain, cold": {"1 %": CHOSEN}}},
            "- With the start `cold`, at an allowed loss of 1 %, the rule skips 60 % of the work (10 % already at "
            "threshold 0), and fewer steps skip 50 %. Cases in which the rule skips more: all. Cases in which it does "
            "so by whole pixels or points: none. Cases in which the loss stays within 1 % on the test, with the chosen "
            "threshold: all (20 points more than with the fewest steps that stay within it); with the chosen number "
            "of steps: all.",
            id="language models",
        ),
    ],
)
def test_what_a_run_shows_is_made_from_its_numbers(
    shows: Callable[[findings.Values], str], found: findings.Values, sentence: str
) -> None:
    assert shows(found) == sentence
