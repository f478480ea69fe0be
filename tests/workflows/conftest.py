"""A checkout that tests share, and a small pipeline that DVC has run, in which every run of a command leaves a word."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workflows.checkout import ROOT, copy, environment, run

from workflows.engines import workspace

PIPELINE = f"""
stages:
  check:
    cmd: >-
      PYTHONPATH={ROOT} python -c
      "from workflows.engines import cache, leftovers; cache.mend(); leftovers.take_out()"
    always_changed: true
    outs: [checked.txt: {{cache: false, persist: true}}]
  get:
    cmd: echo get >> runs && mkdir -p data && cp source.txt data/manifest.json
    deps: [source.txt, checked.txt]
    params: [pages]
    outs: [data]
  train:
    matrix: {{seed: "${{seeds}}"}}
    cmd: echo train${{item.seed}} >> runs && mkdir -p out && cp data/manifest.json out/${{item.seed}}.csv
    deps: [data]
    params: [steps]
    outs: ["out/${{item.seed}}.csv"]
  plot:
    cmd: echo plot >> runs && cat out/*.csv > figure.svg
    deps: [out]
    outs: [figure.svg]
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, and its parameters beside it."""
    folder = copy(tmp_path_factory.mktemp("shared") / "checkout")
    shutil.copy(folder / "params.yaml", folder.parent)
    return folder


@pytest.fixture
def checkout(shared: Path) -> Path:
    """A checkout of the profile mini in which no stage has run but `check` and `code`; tests change parameters only."""
    shutil.copy(shared.parent / "params.yaml", shared)
    return shared


@pytest.fixture
def busy(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, which is the working directory, beside a stage of DVC at work: Snakemake plans without asking DVC."""
    monkeypatch.chdir(checkout)
    held = workspace.join()
    assert held is not None
    yield checkout
    os.close(held)


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pipeline."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("pages: 1\nsteps: 3\nseeds: [1, 2]\n")
    (folder / "source.txt").write_text("source\n")
    (folder / "checked.txt").write_text("checked\n")
    (folder / ".gitignore").write_text("/data\n/out\n/figure.svg\n/runs\n")
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "init", "--quiet")
    run(folder, "dvc", "repro", "--quiet")
    assert (folder / "runs").read_text().split() == ["get", "train1", "train2", "plot"]
    return folder


@pytest.fixture
def pipeline(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working directory."""
    folder = tmp_path / "pipeline"
    shutil.copytree(ran, folder, copy_function=shutil.copy)  # new dates, in no order
    monkeypatch.chdir(folder)
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    return folder
