"""The Snakefile: what its linter says, and what it refuses or mends before anything runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.workflows.checkout import environment, run

from workflows.engines import workspace
from workflows.live import TIMES


def test_the_linter_misses_only_conda_environments(busy: Path) -> None:
    remarks = re.findall(r"^    \* (.*)$", run(busy, "snakemake", "--lint", check=False).stdout, re.MULTILINE)
    assert set(remarks) == {"Specify a conda environment or container for each rule.:"}  # pip installs them: Makefile


def test_a_plan_mends_a_dvc_lock_that_a_power_cut_has_left(checkout: Path) -> None:
    (checkout / "dvc.lock").write_bytes(bytes(5000))
    said = run(checkout, "snakemake", "--dry-run", "sequence").stdout
    assert "dvc.lock was damaged, as a killed DVC or a power cut can leave it; moved to .dvc/tmp/dvc.lock." in said
    assert "This was a dry-run" in said
    assert bytes(5000) not in (checkout / "dvc.lock").read_bytes()


def test_parameters_beside_params_yaml_are_refused(checkout: Path) -> None:
    process = run(checkout, "snakemake", "--dry-run", "--config", "steps=3", check=False)
    assert process.returncode != 0
    assert "--config and --configfile are not used here (got steps)" in process.stdout
    assert "Traceback" not in process.stdout


def test_jobs_that_snakemake_only_touches_have_no_time(checkout: Path) -> None:
    assert "flow_download" in run(checkout, "snakemake", "--touch", "--cores", "1", "flow_download").stdout
    assert not (checkout / TIMES).exists()


def test_snakemake_does_not_run_what_it_planned_beside_a_stage_of_dvc_that_has_ended(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    held = workspace.join()
    assert held is not None
    with subprocess.Popen(
        ["snakemake", "--cores", "1", "flow_download"],
        cwd=checkout,
        env=environment(checkout),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        while "The dates of outputs are left as they are" not in next(said):
            pass
        os.close(held)
        assert "has worked in this checkout while this one planned: start it again" in "".join(said)
    assert process.returncode != 0
    assert not (checkout / "data").exists()
