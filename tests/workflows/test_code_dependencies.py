"""A stage depends on all the code that its command imports, so that no result outlives the code it came from."""

import importlib
import importlib.util
from pathlib import Path

import grimp
import pytest
from tests.workflows.checkout import ROOT, copy
from tests.workflows.graphs import Stage, dvc_graph

ENTRIES = {
    "vision-report": "report",
    "deq-flow download": "data.mini.write",
    "deq-vision download": "data.mini.write",
    "deq-vision baselines": "baselines.evaluate",
    "evaluate-stream": "streaming.evaluate",
    "prepare": "data.texts",
}
"""Module that does the work of a command, where it has not the command's own name."""


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("deq_core", "deq_flow", "deq_sequence", "deq_vision", cache_dir=None)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    return dvc_graph(copy(tmp_path_factory.mktemp("checkout")))


def needed(command: str, imports: grimp.ImportGraph) -> set[str]:
    """Files of the modules behind a command: the one that holds it, its own, and all that they import.

    A module of commands imports most others inside of its functions, one function a command, so of those only the
    command's own counts. A package's __init__.py only passes names on, and its cli.py only finds the module.
    """
    package, name, first, *_ = command.removeprefix("exec python -m workflows.stage ").split()
    holder = f"{package.replace('-', '_')}.commands.study"
    if name in ("study", "report") and importlib.util.find_spec(holder):
        studies = importlib.import_module(holder).STUDIES
        module = (studies.stages if name == "study" else studies.reports)[first].partition(":")[0]
        return {file for each in {module, *imports.find_upstream_modules(module)} if (file := source(each)) is not None}
    entry = ENTRIES.get(f"{package} {name}", ENTRIES.get(name, name))
    package = package.replace("-", "_")
    table = importlib.import_module(f"{package}.cli").COMMANDS
    holder = next(module for module, names in table.items() if name in names)
    entries = {f"{package}.params", f"{package}.{entry}"}
    modules = {holder}.union(entries, *(imports.find_upstream_modules(entry) for entry in entries))
    return {file for module in modules if (file := source(module)) is not None}


def source(module: str) -> str | None:
    """Path of a module from the root; None for a package."""
    package = module.partition(".")[0]
    path = f"packages/{package.replace('_', '-')}/src/{module.replace('.', '/')}.py"
    return path if (ROOT / path).exists() else None


def test_a_stage_lists_the_code_that_it_runs(stages: dict[str, Stage], imports: grimp.ImportGraph) -> None:
    missing = {
        name: sorted(
            file
            for file in needed(stage.command, imports)
            if not any(Path(file).is_relative_to(dependency) for dependency in stage.inputs)
        )
        for name, stage in stages.items()
    }
    assert {name: files for name, files in missing.items() if files} == {}


def test_the_code_that_a_stage_lists_exists(stages: dict[str, Stage]) -> None:
    code = {path for stage in stages.values() for path in stage.inputs if path.startswith("packages/")}
    assert [path for path in sorted(code) if not (ROOT / path).exists()] == []


def test_a_forgotten_module_is_noticed(imports: grimp.ImportGraph) -> None:
    files = needed("exec python -m workflows.stage deq-flow train --seed 0", imports)
    assert "packages/deq-flow/src/deq_flow/loss.py" in files
    assert "packages/deq-core/src/deq_core/_solve/fixed_point.py" in files
    assert "packages/deq-flow/src/deq_flow/studies/table.py" not in files
