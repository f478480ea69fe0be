"""The code of the pages for users of other code runs, on files of the layouts that they would bring."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.flow.test_models_load import released_state

import deq_vision
from deq_vision.models.compat.convert import official

DOCS = Path(__file__).parents[1] / "docs"


def raft() -> dict[str, object]:
    return {f"module.{name}": value for name, value in released_state("raft").items()}


def lightning() -> dict[str, object]:
    """RAFT's names in what Lightning writes."""
    return {"epoch": 1, "global_step": 2, "hyper_parameters": {"iters": 12}, "state_dict": released_state("raft")}


def mdeq() -> dict[str, object]:
    return {official(name): value for name, value in deq_vision.build("cifar-tiny").state_dict().items()}


FILES: dict[str, tuple[str, Callable[[], dict[str, object]]]] = {
    "coming-from-raft.md": ("raft-things.pth", raft),
    "coming-from-ptlflow.md": ("raft-things.ckpt", lightning),
    "coming-from-locuslab-deq.md": ("mdeq.pth", mdeq),
}
"""The file that a page loads, and what is in it."""


@pytest.mark.parametrize("page", FILES)
def test_the_pages_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, content = FILES[page]
    torch.save(content(), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
