"""The code in the documentation of the core runs, page by page, from top to bottom."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import deq_core

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    "choosing-a-gradient.md",
    "choosing-a-solver.md",
    "debugging.md",
    "deq-core.md",
    "from-torchdeq.md",
    "writing-a-solver.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_code_runs(page, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # torch.compile looks for a function's module there
    for block in blocks:
        exec(compile(block, page, "exec"), vars(module))


def public_names():
    return [name for name, found in vars(deq_core).items() if not name.startswith("_") and not inspect.ismodule(found)]


def test_every_public_name_is_on_the_page_of_the_core():
    listed = (DOCS / "deq-core.md").read_text().split("## Every name")[1].split("\n## ")[0]
    assert {*re.findall(r"`(\w+)`", listed)} == {*public_names()}


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_has_a_docstring_of_its_own(name):
    thing = getattr(deq_core, name)
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}("), "a dataclass without a docstring"
    for member, value in vars(thing).items() if isinstance(thing, type) else ():
        if not member.startswith("_") and callable(value) and member not in ("forward", "extra_repr", "step", "init"):
            assert value.__doc__, f"{name}.{member}"
