"""The profile for Kubernetes, as far as that goes without one: `kubectl` here is a program that runs Jobs itself."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from tests.workflows.checkout import ROOT, copy, run, set_parameters

KUBECTL = """#!{python} -SE
import os, pathlib, re, subprocess, sys
jobs, (verb, *arguments) = pathlib.Path(__file__).parent, sys.argv[1:]
if verb == "create":
    job = sys.stdin.read()
    name = "deq-%d" % len(list(jobs.glob("*.yaml")))
    (jobs / (name + ".yaml")).write_text(job)
    script = re.search('command: \\\\[sh, "(.*)"\\\\]', job)[1]
    ended = subprocess.run(["sh", script], stdout=sys.stderr, env={{**os.environ, "DEQ_ENGINE": "snakemake"}})
    (jobs / name).write_text("Failed" if ended.returncode else "Complete")
    print(name)
elif verb == "get":
    print((jobs / arguments[1]).read_text())
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of that program, where it keeps the Jobs that it was given."""
    folder = tmp_path / "kubernetes"
    folder.mkdir()
    (folder / "kubectl").write_text(KUBECTL.format(python=sys.executable))
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_a_job_asks_kubernetes_for_what_its_rule_asks_for(jobs: Path, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(f"echo $PWD $DEQ_ENGINE > {tmp_path}/said; exit 3\n")
    submit = ROOT / "profiles/kubernetes/submit"
    name = subprocess.check_output([submit, "10", "32000", "2", "1440", script], cwd=tmp_path, text=True).strip()
    job = yaml.safe_load((jobs / f"{name}.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": 10, "memory": "32000M"},
        "limits": {"memory": "32000M", "nvidia.com/gpu": 2},
    }
    assert job["activeDeadlineSeconds"] == 24 * 60 * 60
    assert (tmp_path / "said").read_text() == f"{tmp_path} snakemake\n"
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"] == str(tmp_path)
    assert subprocess.check_output([ROOT / "profiles/kubernetes/status", name], text=True) == "failed\n"


@pytest.mark.skipif(
    find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="not installed: snakemake-executor-plugin-cluster-generic, which profiles/requirements.txt names",
)
def test_a_stage_runs_as_a_job_of_kubernetes(jobs: Path, tmp_path: Path) -> None:
    folder = copy(tmp_path / "checkout")
    set_parameters(folder, {}, name="smoke")
    run(folder, "snakemake", "--profile", "profiles/kubernetes", "--latency-wait", "0", "sequence_download")
    assert [path.read_text() for path in jobs.glob("deq-?")] == ["Complete"]
    assert "Nothing to be done" in run(folder, "snakemake", "--dry-run", "sequence_download").stdout
