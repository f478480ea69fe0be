"""The code in the documentation of the core runs, page by page, from top to bottom."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    "choosing-a-gradient.md",
    "choosing-a-solver.md",
    "debugging.md",
    "deq-core.md",
    "convergence.md",
    "from-torchdeq.md",
    "adding-a-solver.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_code_runs(page, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # torch.compile looks for a function's module there
    for block in blocks:
        exec(compile(block, page, "exec"), vars(module))
