"""What README and the pages of docs show is so: their Python runs, and what they name is there."""

import ast
import importlib
import json
import os
import pkgutil
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from matplotlib import pyplot
from tests.flow.parity import released_state
from tests.flow.test_models_load import released_file
from tests.guides import ROOT, steps

import deq_vision
from deq_vision.cli import main as vision
from deq_vision.models.compat.convert import official

FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("packages/**/*.md")]
PAGES = sorted(os.path.relpath(path, ROOT / "docs") for path in FILES)
CODE = {page: [step.text for step in steps(page) if step.kind == "python" and not step.path] for page in PAGES}
"""Blocks of Python, but for those that are files (`tests.guides`) or are marked (`notest`, `lightning`)."""
NOTEBOOKS = sorted(ROOT.glob("docs/*.ipynb"))


def mdeq() -> dict[str, torch.Tensor]:
    """A state dict as the MDEQ release writes it."""
    return {official(name): value for name, value in deq_vision.build("cifar-tiny").state_dict().items()}


NEEDED: dict[str, Callable[[], object]] = {
    "checkpoints.md": lambda: released_file("v2_h", Path("deq-flow-H-things-test-1x.pth")),
    "coming-from-raft.md": lambda: torch.save(released_state("raft"), "raft-things.pth"),
    "coming-from-ptlflow.md": lambda: torch.save(
        {"epoch": 1, "hyper_parameters": {"iters": 12}, "state_dict": released_state("raft")}, "raft-things.ckpt"
    ),
    "coming-from-locuslab-deq.md": lambda: torch.save(mdeq(), "mdeq.pth"),
    "tracking.md": lambda: vision(["register", "digits"]),
}
"""What a page supposes that there is."""


@pytest.mark.parametrize("page", [page for page in PAGES if CODE[page]])
@pytest.mark.usefixtures("tracking_database")
def test_the_code_of_a_page_runs_from_top_to_bottom(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)  # a page sets it
    NEEDED.get(page, lambda: None)()
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # torch.compile looks for a function's module there
    for block in CODE[page]:
        exec(compile(with_shapes(block), page, "exec"), vars(module))


SHAPED = re.compile(r"^( *)([^#\n]*[^#\s:,(]) +# (\(\d+,.*)$", re.MULTILINE)
"""A value that has that shape, or values that have these: `output.flow  # (1, 2, 64, 96) pixels`."""


def with_shapes(block: str) -> str:
    """Code in which what stands beside its shape is looked at."""

    def looked_at(found: re.Match[str]) -> str:
        (line,) = ast.parse(found[2]).body
        if not isinstance(line, ast.Expr):
            return found[0]
        values = line.value.elts if isinstance(line.value, ast.Tuple) else [line.value]
        pairs = zip(values, re.findall(r"\(\d+,[\d, ]*\)", found[3]), strict=False)
        return found[1] + "; ".join(f"assert ({ast.unparse(each)}).shape == {shape}" for each, shape in pairs)

    return SHAPED.sub(looked_at, block)


@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_a_classifier_learns_in_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")
    for step in steps("tutorial-classifier.md"):
        if step.kind in ("python", "python lightning"):
            exec(compile(step.text, "tutorial-classifier.md", "exec"), vars(module))
    metrics = vars(module)["trainer"].callback_metrics
    assert set(metrics) == {"residual", "gradient"}
    with torch.no_grad():
        scores, _ = vars(module)["model"].eval()(vars(module)["images"][1000:])
    assert (scores.argmax(dim=1) == vars(module)["classes"][1000:]).float().mean() > 0.8


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_results_and_runs_from_top_to_bottom(
    notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: pyplot.close("all"))
    module = ModuleType("notebook")
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec(compile("".join(cell["source"]), f"{notebook.name}, {cell['id']}", "exec"), vars(module))
    assert vars(module)["difference"] < 1e-3
    assert all(one.warning is None for one in vars(module)["flows"])


@pytest.mark.parametrize(("program", "page"), [("deq_vision", "deq-vision.md"), ("deq_sequence", "sequence.md")])
def test_every_command_is_on_the_page_of_its_package(program: str, page: str) -> None:
    """That of deq-flow has them in one table: tests/flow/test_page.py."""
    named = set(re.findall(rf"`(?:{program.replace('_', '-')} )?([\w-]+)", (ROOT / "docs" / page).read_text()))
    known = importlib.import_module(f"{program}.cli").COMMANDS
    assert {name for names in known.values() for name in names} - named == set()


NAMES = re.compile(r"`((?:deq|deq_(?:core|flow|vision|sequence)|workflows|benchmarks)(?:\.[A-Za-z_]\w*)+)")
PLACES = re.compile(r"`((?:docs|tests|packages|workflows|benchmarks|release|deq_\w+)/[^`\s{]*)`")


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("adding-")])
def test_names_and_files_of_ours_that_a_page_speaks_of_are_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert [name for name in NAMES.findall(text) if not is_there(re.sub(r"^deq\.", "deq_core.", name))] == []
    assert [place for place in PLACES.findall(text) if not files(place.rstrip("/"))] == []


def is_there(name: str) -> bool:
    """Whether a module or what it has is called so; of a module that needs Triton, whether its file is there."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return files(f"{name.replace('.', '/')}.py")
    return True


def files(place: str) -> bool:
    """Whether the repository or a package's source has it."""
    return any(any(ROOT.glob(folder + place)) for folder in ("", "packages/*/src/"))
