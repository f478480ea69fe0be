"""What a Snakemake at work shows: each job that ends, what is left, how long it takes, and why one failed."""

import io
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.cli import get_argument_parser
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake_interface_logger_plugins.common import LogEvent

from workflows.engines.graph import Job, Rule
from workflows.live import (
    TIMES,
    Live,
    budgets_of,
    by_pipeline,
    duration,
    follow,
    last_times,
    longest_chains,
    table,
    wake_for_news_alone,
)

EVERY = {"flow": ["flow_train deq-0", "flow_report"], "delta": ["delta_sine a"]}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    TIMES.parent.mkdir()
    return tmp_path


def event(kind: LogEvent, **told: object) -> logging.LogRecord:
    record = logging.LogRecord("snakemake", logging.INFO, __file__, 1, "", (), None)
    record.__dict__.update(event=kind, **told)
    return record


def begun(number: int, rule: str, run: str, log: str = "") -> logging.LogRecord:
    return event(LogEvent.JOB_INFO, jobid=number, rule_name=rule, wildcards={"run": run}, log=[log] if log else [])


def test_a_job_that_ends_is_one_line_with_what_is_left_and_its_time_is_remembered() -> None:
    TIMES.write_text(json.dumps({"train a": 10.0, "train b": 30.0}))
    view = Live({"train a": 0.5, "train b": 0.5, "train c": 1}, out=(said := io.StringIO()))
    view.emit(begun(1, "train", "a"))
    view.emit(event(LogEvent.JOB_FINISHED, job_id=1))
    assert view.times["train a"] < 1
    assert last_times() == view.times
    line = said.getvalue()
    assert line.count("\n") == 1
    assert "train a took 0 s: 1 of 3 done, 0 running, 2 waiting, about 30 s left" in line  # 30 / 2 + 15


@pytest.mark.parametrize("how", ["is cached - skipping run, checking out outputs", "didn't change, skipping"])
def test_the_time_in_which_dvc_restored_a_job_is_not_that_of_its_run(how: str, checkout: Path) -> None:
    TIMES.write_text(json.dumps({"train a": 600.0}))
    (checkout / "train.log").write_text(f"Stage 'train@a' {how}\nUse `dvc push` to send your updates.\n")
    view = Live({"train a": 1, "train b": 1}, out=(said := io.StringIO()))
    view.emit(begun(1, "train", "a", "train.log"))
    view.emit(event(LogEvent.JOB_FINISHED, job_id=1))
    assert last_times() == {"train a": 600.0}
    line = "train a not computed, DVC had its outputs: 1 of 2 done, 0 running, 1 waiting, about 10 min left\n"
    assert line in said.getvalue()


def test_a_rest_is_never_shorter_than_its_longest_job() -> None:
    TIMES.write_text(json.dumps({"train a": 1.0, "train b": 100.0}))
    assert Live({"train a": 0.02, "train b": 0.02}).remaining() == pytest.approx(100, abs=1)


def test_what_jobs_share_is_the_scarcest_of_what_the_scheduler_counts() -> None:
    limits = {"_cores": 99, "mem_mb": 8000, "gpu_jobs": 1, "gpu": 0, "_job_count": sys.maxsize}
    needs = {"a": {"_cores": 1, "mem_mb": 4000}, "b": {"_cores": 33, "mem_mb": 80}, "c": {"_cores": 1, "gpu_jobs": 1}}
    rule = SimpleNamespace(name="train", log=["train.log"])
    jobs = [
        SimpleNamespace(rule=rule, wildcards_dict={"run": run}, scheduler_resources=need) for run, need in needs.items()
    ]
    logger = logging.Logger("snakemake")
    view = follow(logger, jobs, SimpleNamespace(global_resources=limits))
    assert view.jobs == {"train a": 0.5, "train b": pytest.approx(1 / 3), "train c": 1}
    assert logger.handlers == [view]


def test_without_times_nothing_is_promised_and_a_damaged_file_is_none() -> None:
    TIMES.write_text("{")
    assert Live({"train a": 1}).remaining() is None


def test_a_failed_job_shows_the_end_of_its_log_and_the_last_words_name_it(checkout: Path) -> None:
    (checkout / "train.log").write_text("".join(f"line {number}\n" for number in range(20)))
    view = Live({"train a": 1, "train b": 1}, out=(said := io.StringIO()))
    view.emit(begun(1, "train", "a", "train.log"))
    view.emit(event(LogEvent.JOB_ERROR, jobid=1))
    view.end(good=False)
    assert "train a FAILED: 0 of 2 done, 0 running, 1 waiting, 1 failed" in said.getvalue()
    assert "line 19" in said.getvalue()
    assert "line 11" not in said.getvalue()
    assert "1 failed: train a\n" in said.getvalue()


def test_a_job_that_is_tried_again_has_not_failed() -> None:
    view = Live({"train a": 1}, out=(said := io.StringIO()))
    for number, kind, told in ((1, LogEvent.JOB_ERROR, "jobid"), (1, LogEvent.JOB_FINISHED, "job_id")):
        view.emit(begun(number, "train", "a"))
        view.emit(event(kind, **{told: number}))
    assert "train a took 0 s: 1 of 1 done, 0 running\n" in said.getvalue()


def test_it_stands_in_the_place_of_snakemakes_own_account_and_leaves_the_log_file_alone() -> None:
    logger, terminal, file = logging.Logger("snakemake"), io.StringIO(), io.StringIO()
    for name, stream in (("DefaultStreamHandler", terminal), ("DefaultLogFileHandler", file)):
        logger.addHandler(handler := logging.StreamHandler(stream))
        handler.name = name
    job = SimpleNamespace(
        rule=SimpleNamespace(name="train", log=["log"]), wildcards_dict={"run": "a"}, scheduler_resources={"_cores": 1}
    )
    goal = SimpleNamespace(rule=SimpleNamespace(name="all", log=[]), wildcards_dict={})
    view = follow(logger, [job, goal], SimpleNamespace(global_resources={"_cores": 2}))
    assert view.left == {"train a": 0.5}
    logger.handle(event(LogEvent.JOB_STARTED, jobs=[1]))
    logger.warning("something else")
    assert terminal.getvalue() == "something else\n"
    assert file.getvalue() == "\nsomething else\n"


def test_a_limit_of_jobs_that_nobody_asked_for_wakes_snakemake_no_more() -> None:
    for asked, stays in (([], False), (["--max-jobs-per-timespan", "50/1m"], True)):
        limit = JobRateLimiter(get_argument_parser().parse_args(["all", *asked]).max_jobs_per_timespan)
        scheduler = SimpleNamespace(job_rate_limiter=limit)
        wake_for_news_alone(scheduler)
        assert (scheduler.job_rate_limiter is limit) == stays


def test_times_of_a_pipeline_are_a_row_with_its_budget_and_its_longest_job() -> None:
    times = {"flow_train deq-0": 600.0, "flow_report": 10.0, "delta_sine a": 30.0, "flow_train of-another-graph": 9.0}
    rows = table(by_pipeline(times, EVERY), {"flow": 12, "vision": 60}).splitlines()[2:]  # vision has not run
    assert rows == [
        "| delta | 1 | 30 s |  | 30 s | delta_sine a |",
        "| flow | 2 | 10 min | 12 min | 10 min | flow_train deq-0 |",
        "| all | 3 | 11 min | 12 min | 10 min | flow_train deq-0 |",
    ]


def test_the_longest_chain_is_that_of_jobs_that_wait_for_each_other_in_other_pipelines_too() -> None:
    def job(name: str, *read: str) -> Job:
        return Job(name, tuple(f"{each}.csv" for each in read), (f"{name}.csv",))

    rules = [
        Rule("flow_train", {"a": job("a", "data"), "b": job("b", "data")}),
        Rule("flow_report", {"": job("report", "a", "b")}),
        Rule("delta_sweep", {"": job("sweep", "b")}),
    ]
    times = {"flow_train a": 50.0, "flow_train b": 60.0, "flow_report": 5.0, "delta_sweep": 7.0}
    assert longest_chains(rules, times) == {"flow": 65.0, "delta": 67.0}


@pytest.mark.parametrize(("minutes", "told"), [(10, True), (11, False), (None, False)])
def test_a_pipeline_that_took_more_than_its_budget_is_told_at_the_end(minutes: int | None, told: bool) -> None:
    TIMES.write_text(json.dumps({"flow_train deq-0": 620.0, "delta_sine a": 900.0, "flow_train deq-9": 1e6}))
    view = Live({"flow_report": 1}, out=(said := io.StringIO()))
    profile = {"flow": {"core_minutes": minutes}, "delta": {"core_minutes": 1}}
    view.end(good=True, every=EVERY, budgets=budgets_of(profile))
    assert (
        "the jobs of flow took 10 minutes of a core in all; params.yaml has a budget of 10," in said.getvalue()
    ) is told
    assert "delta" not in said.getvalue(), "of what did not run now nothing is said"


@pytest.mark.parametrize(("seconds", "text"), [(1.4, "1 s"), (119, "119 s"), (150, "2 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
