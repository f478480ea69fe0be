"""A job reads the parameters that dvc.yaml lists for its stage: others would go unnoticed, or run it for nothing."""

import contextlib
import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.profiles import ROOT
from tests.workflows.checkout import run, set_parameters

from deq_core.experiment.config import loading
from workflows import code
from workflows.engines import commands, graph, parameters


class BegunError(Exception):
    """A command has read its parameters, and its work would begin."""


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[list[str], set[str]]]:
    """Command and parameters of every stage of the profile smoke, which is in the working directory."""
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "git", "init", "--quiet")
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    set_parameters(tmp_path, {}, name="smoke")
    for module, name in ((parameters, "load"), (commands, "definitions")):
        known = getattr(module, name)()
        monkeypatch.setattr(module, name, lambda known=known: known)
    return {
        name: (commands.filled(stage["cmd"].split()[4:], name), set(stage.get("params", ())))
        for name, stage in graph.stages().items()
        if name not in ("check", graph.CODE)
    }


def begin(*_: object, **__: object) -> None:
    raise BegunError


def read(command: Sequence[str], patch: pytest.MonkeyPatch) -> set[str]:
    """The sections that a command reads before its work begins, or ends since there are no results."""
    starts = {module for found in code.entries(command[0]).values() for module, _ in found}
    for module in (*starts, "deq_core.experiment.study.stage", "deq_core.experiment.study.report"):
        patch.setattr(f"{module}.track", begin, raising=False)
    patch.setattr(loading, "_sections_read", [])
    with contextlib.suppress(BegunError, SystemExit):
        importlib.import_module(f"{command[0].replace('-', '_')}.cli").main(command[1:])
    return set(loading.sections_read()) - {""}  # "" is a whole file: config.json, a dependency


def test_a_job_reads_what_its_stage_lists(
    stages: dict[str, tuple[list[str], set[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name: (read(command, monkeypatch), listed) for name, (command, listed) in stages.items()}
    assert {name: sections for name, (sections, listed) in found.items() if not sections or sections - listed} == {}
    pages = {name for name, (command, _) in stages.items() if command[1] == "report"}  # they ask more of what they find
    assert {name for name, (sections, listed) in found.items() if listed - sections} <= pages
