"""README.md and docs tell the truth: reports and stages exist, tables are those of the results."""

import json
import re
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from benchmarks.core.pages import with_table
from tests.profiles import written

from workflows import publish
from workflows.engines.graph import Job, Rule
from workflows.publication import times
from workflows.publish import REPORTS, TABLES, is_published, made

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_report_is_among_what_you_get() -> None:
    section = README.split("## What you get\n")[1].split("\n## ")[0]
    named = []
    for folder, parts in re.findall(r"`(results/\w+/[\w/]+)(?:\{([\w,]+)\})?`", section):
        named += [folder.rstrip("/") + ("/" if part else "") + part for part in parts.split(",")]
    assert sorted(named) == sorted(f"results/{folder}" for folder, _ in REPORTS.values())


@pytest.mark.parametrize("pipeline", ["vision", "stability"])
def test_a_pipeline_that_a_page_describes_has_these_stages_and_reports(pipeline: str) -> None:
    page = (ROOT / "docs" / "deq-vision.md").read_text()
    known = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    own = {name for name in known if name.startswith(f"{pipeline}_")}
    rows = re.findall(rf"^\| (`{pipeline}_.*?) \|", page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == own
    (reports,) = re.findall(rf"`snakemake --cores 8 {pipeline}` or `dvc repro ([^`]*)`", page)
    assert set(reports.split()) == {name for name in own if name.endswith("report")}


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, tables in TABLES.items() for name in tables])
def test_a_table_is_made_from_the_published_results(page: str, name: str) -> None:
    text = (ROOT / page).read_text()
    assert with_table(text, name, made(TABLES[page][name])) == text, (
        f"{page}: run `python -m workflows.publish` after the pipeline"
    )


def test_the_memory_of_a_training_step_is_that_of_its_page() -> None:
    (rows,) = re.findall(r"^\| network \| encoders .*\n((?:\|.*\n)+)", README, flags=re.MULTILINE)
    known = (ROOT / "docs" / "deq-flow.md").read_text().splitlines()
    assert [row for row in rows.splitlines() if row not in known] == []


@pytest.mark.parametrize("page", TABLES)
def test_measured_numbers_stand_in_tables_and_findings_alone(page: str) -> None:
    """A number that was set stands as `code`; one that was measured is made from the results, or grows old unseen."""
    prose = (ROOT / page).read_text()
    for made_or_code in (r"<!-- table (\S.*?) -->.*?<!-- end \1 -->", r"^```.*?^```$", r"`[^`]*`", r"\]\([^)]*\)"):
        prose = re.sub(made_or_code, "", prose, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^\|.*\|$|(?:Python|torch|SQLite) [\d.]+", "", prose, flags=re.MULTILINE)
    assert re.findall(r".*(?:\d\.\d|\d ?%|\de-\d).*", prose) == []


@pytest.mark.parametrize("report", [name for name in REPORTS if is_published(name)])
def test_published_figures_are_shown(report: str) -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    _, shown = REPORTS[report]
    assert [name for name in shown if f"(figures/{report}_{name}.svg)" not in pages] == []


def test_reports_are_published_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "docs" / "results")
    monkeypatch.setattr(publish, "write_pages", lambda: None)
    monkeypatch.setattr(publish, "require_current", lambda rules, pipelines: None)
    (tmp_path / "params.yaml").write_text(written("mini"))
    places = [publish.copies(name) for name in REPORTS if name.startswith("stability")]
    for number, (source, place) in enumerate(pair for of_report in places for pair in of_report.items()):
        with pytest.raises(SystemExit, match=rf"{source}: expected a result to publish, .* run the pipeline first"):
            publish.main(["stability"])
        assert not place.exists()
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(str(number))
    publish.main(["stability"])
    taken = [place.read_text() for of_report in places for place in of_report.values()]
    assert taken == [str(number) for number in range(len(taken))]


@pytest.mark.parametrize("numbers", [written("smoke"), written("mini").replace("lr: 2e-3", "lr: 1e-3", 1)])
def test_results_of_other_numbers_than_the_documentation_has_are_not_published(
    numbers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "docs" / "results")
    monkeypatch.setattr(publish, "write_pages", lambda: None)
    (tmp_path / "params.yaml").write_text(numbers)
    for source in (source for name in REPORTS if name.startswith("stability") for source in publish.copies(name)):
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("")
    with pytest.raises(SystemExit, match="expected the profile mini as it is"):
        publish.main(["stability"])
    assert not publish.RESULTS.exists()


def test_times_are_taken_over_where_every_job_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "require_profile", lambda: None)
    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    monkeypatch.setattr(publish, "write_pages", lambda: None)
    monkeypatch.setattr(times.parameters, "load", lambda: {"flow": {"core_minutes": 30}})
    jobs = {name: Job(name, (read,), (f"{name}.csv",)) for name, read in (("train", "data"), ("report", "train.csv"))}
    rules = [Rule("flow_train", {"deq-0": jobs["train"]}), Rule("flow_table_report", {"": jobs["report"]})]
    monkeypatch.setattr(times.graph, "rules", lambda _: rules)
    ran = times.runs.Run(
        "flow_train deq-0", "flow_train", "", datetime.min, seconds=599.0, cpu=590.0, memory=900.0, made_by={}
    )
    monkeypatch.setattr(times.runs, "behind", lambda _: {Path("metrics.json"): ran})
    last = {"flow_train deq-0": 60.0}  # of the profile smoke, say
    monkeypatch.setattr(times.live, "last_times", lambda: last)
    with pytest.raises(SystemExit, match="has none of flow_table_report and 0 others"):
        publish.main(["times"])
    last["flow_table_report"] = 30.0
    with pytest.raises(SystemExit, match="but flow_train deq-0 and 0 others took longer"):
        publish.main(["times"])
    last["flow_train deq-0"] = 600.0
    publish.main(["times"])
    found = json.loads((tmp_path / "times.json").read_text())
    assert times.table({**found, "own": {**found["flow"], "budget": None}}).splitlines()[2:] == [
        "| flow | 2 | 10 | 30 | 2 | 10 | `flow_train deq-0` | 10.0 | 0.90 |",
        "| own | 2 | 10 |  | 2 | 10 | `flow_train deq-0` | 10.0 | 0.90 |",
        "| all | 4 | 21 | 30 | 2 | 10 |  |  |  |",
    ]


def test_what_follows_a_fault_is_what_tests_find_that_provoke_it() -> None:
    page = (ROOT / "docs" / "reproducibility.md").read_text()
    (rows,) = re.findall(r"^\| what happens .*\n\|[ |-]+\n((?:\|.*\n)+)", page, flags=re.MULTILINE)
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), flags=re.MULTILINE)
    }
    for row in rows.splitlines():
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, f"no test provokes it: {row}"
        assert named <= defined, row
