"""The code in the documentation of the core runs, page by page, from top to bottom."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from workflows.api import NAMESPACES, public

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    "choosing-a-gradient.md",
    "choosing-a-solver.md",
    "debugging.md",
    "deq-core.md",
    "convergence.md",
    "coming-from-torchdeq.md",
    "adding-a-solver.md",
    "tutorial-classifier.md",
    "tutorial-graph.md",
    "tutorial-block.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_code_runs(page, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # torch.compile looks for a function's module there
    for block in blocks:
        exec(compile(block, page, "exec"), vars(module))


def test_every_public_name_is_on_the_page_of_the_core():
    listed = (DOCS / "deq-core.md").read_text().split("## Every name")[1].split("\n## ")[0]
    assert {*re.findall(r"`(?:deq\.\w+\.)?(\w+)`", listed)} == {name for space in NAMESPACES for name in public(space)}
