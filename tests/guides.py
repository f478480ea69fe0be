"""Pages of docs that show how something is added: a test does what a page says, in a copy of the repository.

A block under a path in backticks and a colon is the content of that file, or, of `diff`, a change of it; a block of
`sh` is run, and must end with 0.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.workflows.checkout import ROOT, copy, edit, environment

PACKAGES = ("deq-core", "deq-flow", "deq-vision", "deq-sequence")
BLOCK = re.compile(r"^(?:`([^`\n]+)`:\n\n)?```([^\n`]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """One block of a page; its kind is its language."""

    path: str
    kind: str
    text: str


def steps(page: str) -> list[Step]:
    """The blocks of docs/`page`, in order."""
    return [Step(*found) for found in BLOCK.findall((ROOT / "docs" / page).read_text())]


def follow(page: str, folder: Path) -> str:
    """Does what a page says in a new copy of the repository in `folder`; what its commands printed."""
    copy(folder)
    found = steps(page)
    assert found, f"docs/{page} has no block"
    said = ""
    for step in found:
        if step.kind == "diff":
            for change in step.text.split("@@\n"):
                edit(folder / step.path, side(change, "-"), side(change, "+"))
        elif step.path:
            file = folder / step.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step.text)
        elif step.kind == "sh":
            said += run(folder, page, step, "bash", "-euo", "pipefail", "-c", step.text)
    return said


def side(change: str, mark: str) -> str:
    """The lines of a change that stay, and those with that mark: what there was, or what there will be."""
    return "".join(f"{line[1:]}\n" for line in change.splitlines() if line[:1] in ("", " ", mark))


def run(folder: Path, page: str, step: Step, *command: str) -> str:
    """What a command printed that sees the code of the copy, and not that of this checkout."""
    sources = [str(folder / "packages" / name / "src") for name in PACKAGES]
    variables = {**environment(folder), "PYTHONPATH": os.pathsep.join([*sources, str(folder)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"docs/{page}:\n{step.text}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout
