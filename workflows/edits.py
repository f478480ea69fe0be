"""Shows which stages of dvc.yaml an edit makes out of date: `python -m workflows.edits [FILE ...]`.

FILE is a file of a package: code, or a shipped checkpoint. Without files, writes the table of docs/reproducibility.md.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from benchmarks.core.pages import with_table

from workflows import code
from workflows.engines import commands

PAGE = code.ROOT / "docs" / "reproducibility.md"
RUN = re.compile(r"exec python -m workflows\.stage (deq-\w+)((?: [a-z][\w-]*(?![\w=-]))+)")
DOMAINS = ("flow", "vision", "sequence")
ROWS = {
    "solvers, adjoints": ["deq_core/_solve/*", "deq_core/_scope/*", "deq_core/_solvers/*", "deq_core/_adjoints/*"],
    "the delta rule": ["deq_core/delta/*"],
    "the training loop": ["deq_core/experiment/training/*"],
    **{f"data of {domain}": [f"deq_{domain}/data/*"] for domain in DOMAINS},
    **{f"models of {domain}": [f"deq_{domain}/models/*"] for domain in DOMAINS},
    "training of flow": ["deq_flow/training/train.py"],
    **{f"training of {domain}": [f"deq_{domain}/train.py"] for domain in ("vision", "sequence")},
    **{f"evaluation of {domain}": [f"deq_{domain}/evaluat*"] for domain in DOMAINS},
    "streaming": ["deq_vision/streaming/evaluate.py"],
    **{f"a study of {domain}": [f"deq_{domain}/studies/*"] for domain in DOMAINS},
    "figures": ["deq_core/experiment/study/plotting.py"],
    **{f"figures and reports of {domain}": [f"deq_{domain}/reports/*"] for domain in DOMAINS},
    "tracking": ["deq_core/experiment/tracking/*"],
    "the command line": ["deq_core/experiment/commands.py", "deq_*/cli.py"],
    "demos": ["deq_*/demo/*"],
    "files, errors, progress": [
        f"deq_core/experiment/{name}" for name in ("files.py", "outputs/*", "errors.py", "progress.py")
    ],
}
"""Rows of the table: parts of the code, with the patterns of their files."""


def stages() -> dict[str, tuple[str, str]]:
    """The program and command of each stage that runs a package's program."""
    definitions = commands.definitions(code.ROOT / "dvc.yaml")
    found = {name: RUN.match(stage.get("do", stage)["cmd"]) for name, stage in definitions.items()}
    return {name: (run[1], run[2].strip()) for name, run in found.items() if run}


@cache
def reruns() -> Mapping[str, set[str]]:
    """For each file, by its path in its package, the stages that run or read it."""
    definitions = commands.definitions(code.ROOT / "dvc.yaml")
    found: defaultdict[str, set[str]] = defaultdict(set)
    for stage, (program, command) in stages().items():
        for file in code.behind(program, command):
            found[file.partition("/src/")[2].partition(":")[0]].add(stage)
        for folder in definitions[stage].get("do", definitions[stage])["deps"]:
            if folder.startswith("packages/"):
                for path in code.ROOT.glob(f"{re.sub(r'[$]{.*?}', '*', folder)}/*"):
                    if path.suffix != ".md":  # .dvcignore
                        found[place(path)].add(stage)
    return found


def place(file: Path) -> str:
    """The path of a file in its package.

    Raises:
        ValueError: it is not a file of a package.
    """
    for folder in map(Path.resolve, code.SOURCES.values()):
        if file.is_file() and file.resolve().is_relative_to(folder):
            return file.resolve().relative_to(folder.parent).as_posix()
    raise ValueError(f"{file}: expected a file of a package, below packages/*/src")


def after(patterns: Sequence[str]) -> set[str]:
    """The stages that are out of date after an edit in any file that matches these patterns."""
    meant = [file for file in reruns() if any(fnmatch(file, pattern) for pattern in patterns)]
    return set().union(*(reruns()[file] for file in meant))


def exists(pattern: str) -> bool:
    """Whether any file matches the pattern."""
    return any(code.ROOT.glob(f"packages/*/src/{pattern}"))


def said(names: set[str]) -> str:
    """A set of stages in words."""
    left = stages().keys() - names
    if not names or not left:
        return "every stage" if names else "nothing"
    return ", ".join(sorted(names)) if len(names) <= len(left) else f"every stage but {', '.join(sorted(left))}"


def table() -> str:
    """The Markdown table of parts of the code, and what runs again after an edit in each."""
    if gone := [pattern for patterns in ROWS.values() for pattern in patterns if not exists(pattern)]:
        raise FileNotFoundError(f"no file is in {', '.join(gone)}; say in ROWS where it went")
    rows = [f"| {room} | {said(after(patterns))} |" for room, patterns in ROWS.items()]
    return "\n".join(["| an edit in | runs again |", "| --- | --- |", *rows])


def main(files: Sequence[str]) -> None:
    """Prints the stages of each file, or writes the table."""
    try:
        for file in files:
            print(f"{file}: {said(after([place(Path(file))]))}")
    except ValueError as error:
        raise SystemExit(str(error)) from None
    if not files:
        PAGE.write_text(with_table(PAGE.read_text(), "edits", table()))


if __name__ == "__main__":
    main(sys.argv[1:])
