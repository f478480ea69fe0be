"""Snakemake's rules are made of DVC's stages: each stage is one job, after the jobs that write what it reads."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from tests.profiles import PROFILES
from tests.workflows.checkout import ROOT, run, set_parameters

from workflows.engines import graph, parameters
from workflows.engines.graph import GraphError, Job, Rule, final, outputs, rule

JOB = re.compile(r"^rule \w+:\n(?P<body>(?:^ .*\n)+)^Shell command: .* --single-item (?P<stage>\S+) > ", re.MULTILINE)


def job(stage: str, *outputs: str, inputs: tuple[str, ...] = ()) -> Job:
    return Job(stage, inputs, outputs)


@pytest.mark.parametrize("name", PROFILES)
def test_every_stage_has_a_job_with_its_files(name: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_parameters(checkout, {}, name=name)
    monkeypatch.chdir(checkout)
    stages = {stage: found for stage, found in graph.stages().items() if stage not in ("check", graph.CODE)}
    values = parameters.load()
    jobs = {job.stage: job for rule in graph.rules(values) for job in rule.jobs.values()}
    assert jobs.keys() == stages.keys()
    listed = {key for found in stages.values() for key in found.get("params", ())}
    assert [key for key in sorted(listed) if not is_there(values, key)] == []
    for stage, found in stages.items():
        job = jobs[stage]
        assert set(job.outputs) == {path if Path(path).suffix else f"{path}/manifest.json" for path in outputs(found)}
        read = [path for path in found["deps"] if path.startswith(("data/", "results/")) and "/code/" not in path]
        assert all(any(belongs(path, dependency) for path in job.inputs) for dependency in read)
        assert all(any(belongs(path, dependency) for dependency in read) for path in job.inputs if read)


def test_pages_name_results_and_jobs_that_there_are(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    found = {(each.name, run): job for each in graph.rules(parameters.load()) for run, job in each.jobs.items()}
    files = {file for job in found.values() for file in job.outputs}
    places = {str(place) for file in files for place in (PurePosixPath(file), *PurePosixPath(file).parents)}
    places |= {"results/report.html", "results/logs", "results/code"}
    checked = []
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        if page.name.startswith("adding-"):  # what they add is there when it has been added
            continue
        text = page.read_text()
        own = set(re.findall(r"(?:--out|out=) ?(\S+)", text))
        for name in re.findall(r"\bresults/[\w./{},-]+", text):
            for each in {name, *(re.sub(r"\{.*\}", part, name) for part in re.findall(r"[\w-]+(?=[,}])", name))} - own:
                if "{" not in each:
                    assert each.rstrip("/.,") in places, f"{page.name}: {name}"
                    checked.append(each)
        for job in re.findall(r'find "(.*)"$', text, re.MULTILINE):
            assert tuple(job.split()) in found, f"{page.name}: {job}"
            checked.append(job)
    assert len(checked) > 20


def is_there(values: Mapping[str, Any], key: str) -> bool:
    """Whether a dotted key has a value; DVC runs no stage that lists one without."""
    place: Any = values
    for name in key.split("."):
        if not isinstance(place, Mapping) or name not in place:
            return False
        place = place[name]
    return True


def test_a_pipeline_has_one_small_file_of_metrics_and_its_plots_draw_the_tables_of_figures() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    metrics = [(name.partition("_")[0], *stage["metrics"]) for name, stage in stages.items() if "metrics" in stage]
    pipelines = {name.partition("_")[0] for name in stages} - {"check", "code"}
    assert sorted(pipeline for pipeline, _ in metrics) == sorted(pipelines)
    assert {Path(path).name for _, path in metrics} == {"headline.json"}
    for stage in stages.values():
        for plot in stage.get("plots", ()):
            ((path, options),) = plot.items()
            assert str(Path(path).with_suffix(".svg")) in stage["outs"]
            assert (ROOT / ".dvc/plots" / f"{options['template']}.json").exists()


def test_snakemake_has_these_jobs_with_what_they_ask_for(busy: Path) -> None:
    """Of all that one can ask it for: the default, each pipeline, each stage without a matrix, and files."""
    set_parameters(busy, {}, name="paper")
    rules = graph.rules(parameters.load())
    jobs = {job.stage: job for rule in rules for job in rule.jobs.values()}
    targets = {"all", *(rule.pipeline for rule in rules), *(rule.name for rule in rules if "" in rule.jobs)}
    files = [next(iter(rule.jobs.values())).outputs[-1] for rule in rules]
    said = run(busy, "snakemake", "--dry-run", "--forceall", "--printshellcmds", *sorted(targets), *files).stdout
    found = {match["stage"]: match["body"] for match in JOB.finditer(said)}
    assert found.keys() == jobs.keys()
    for stage, body in found.items():
        assert (listed(body, "input"), listed(body, "output")) == (set(jobs[stage].inputs), set(jobs[stage].outputs))
        asks = jobs[stage].asks
        assert listed(body, "resources") >= {
            *(f"gpu={asks.gpu}", f"gpu_jobs={min(1, asks.gpu)}", f"mem_mb={asks.mem_mb}", f"runtime={asks.runtime}")
        }
    trainings = [job.asks for stage, job in jobs.items() if stage.startswith(("flow_train@", "vision_train@"))]
    assert {asks.gpu for asks in trainings} == {1, 2, 3, 4, 8}
    networks = {
        name
        for name, stage in graph.stages().items()
        if any(map(is_network, [*stage.get("deps", ()), *outputs(stage)]))
    }
    small = {name for name in networks if name.startswith("delta_sine")}
    untrained = {name for name in jobs if name.endswith("_training_costs")}
    assert {stage for stage, job in jobs.items() if job.asks.gpu} == networks - small | untrained


def is_network(path: str) -> bool:
    """Whether there is a network in a file or folder, or the history of its training."""
    return path.endswith(("/model.safetensors", "/history.csv")) or "/checkpoints/" in path


def belongs(path: str, dependency: str) -> bool:
    """Whether a stage depends on a written file: on it, on a folder it is in, or on something in its own folder."""
    written, wanted = PurePosixPath(path), PurePosixPath(dependency)
    return written.is_relative_to(wanted) or (written.name == "manifest.json" and wanted.is_relative_to(written.parent))


def listed(body: str, directive: str) -> set[str]:
    found = re.search(rf"^ +{directive}: (.*)$", body, re.MULTILINE)
    return set(found[1].split(", ")) if found else set()


def test_the_jobs_of_a_matrix_are_told_apart_by_their_folder() -> None:
    made = rule("train", [job(f"train@{run}", f"r/train/{run}/a", f"r/train/{run}/b") for run in ("x-0", "x-1")])
    assert made.outputs == ["r/train/{run}/a", "r/train/{run}/b"]
    assert made.jobs["x-1"].stage == "train@x-1"
    assert made.log == "results/logs/train/{run}.log"
    assert re.fullmatch(made.runs, "x-0")
    assert not re.fullmatch(made.runs, "x-2")


def test_a_run_may_be_called_as_another_folder_of_its_path() -> None:
    made = rule("train", [job(f"train@{run}", f"r/train/{run}/a") for run in ("train", "r")])
    assert made.outputs == ["r/train/{run}/a"]


def test_a_matrix_of_one_has_the_files_and_the_log_of_a_matrix() -> None:
    made = rule("train", [job("train@x-0", "r/train/x-0/a")])
    assert (made.outputs, made.log) == (["r/train/{run}/a"], "results/logs/train/{run}.log")


def test_a_stage_without_a_matrix_has_no_wildcard() -> None:
    made = rule("plot", [job("plot", "r/figures/a.svg")])
    assert (made.outputs, made.log, made.job(object()).stage) == (["r/figures/a.svg"], "results/logs/plot.log", "plot")


@pytest.mark.parametrize(
    "outputs",
    [(["r/a/x"], ["r/a/x"]), (["r/a/x"], ["r/b/y"]), (["r/a/x"], ["r/x"]), (["r/a/x", "r/a/y"], ["r/b/x", "r/a/y"])],
    ids=["the same files", "two folders", "other depths", "one file of two"],
)
def test_a_matrix_whose_outputs_cannot_be_told_apart_is_refused(outputs: tuple[list[str], list[str]]) -> None:
    with pytest.raises(GraphError, match=r"dvc\.yaml: train: the outputs"):
        rule("train", [job(f"train@{place}", *paths) for place, paths in enumerate(outputs)])


def test_what_no_stage_reads_is_the_aim_of_its_pipeline() -> None:
    made = [
        Rule("flow_train", {"": job("flow_train", "r/flow/model")}),
        Rule("flow_report", {"": job("flow_report", "r/flow/report.md", inputs=("r/flow/model",))}),
        Rule("vision_report", {"": job("vision_report", "r/vision/report.md")}),
    ]
    assert final(made) == ["r/flow/report.md", "r/vision/report.md"]
    assert final(made, "flow") == ["r/flow/report.md"]
