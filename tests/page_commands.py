"""The commands that README and the pages of docs show, and whether there are such commands; none is run."""

import argparse
import contextlib
import functools
import importlib
import inspect
import os
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.cli.parser import get_main_parser
from snakemake.cli import get_argument_parser
from tests.guides import ROOT, steps

from deq_core.experiment.options import asked
from deq_core.experiment.study.registry import Studies, found
from deq_core.experiment.study.stage import case_of
from workflows.profile import profile

FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("packages/**/*.md")]
PAGES = sorted(os.path.relpath(path, ROOT / "docs") for path in FILES)
SETTINGS = r"(?:\w+=\S* )*(?:\.venv/bin/)?"
PROGRAM = re.compile(rf"{SETTINGS}(?:deq-(?:flow|vision|sequence)|python|pytest|snakemake|dvc|make|mlflow|pip) ")
"""How a command begins where not all is commands, as in blocks of `sh`."""
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].keys()
TARGETS = {"all", *STAGES, *(name.partition("_")[0] for name in STAGES)} - {"check", "code"}


def of_blocks(page: str) -> Iterator[str]:
    """The commands that are typed."""
    for step in steps(page):
        text = re.sub(r"<<'(\w+)'\n.*?^\1$", "", step.text, flags=re.DOTALL | re.MULTILINE)
        for command in map(bare, text.splitlines()) if step.kind in ("", "sh", "console") and not step.path else ():
            if command and (step.kind == "sh" or PROGRAM.match(command)):
                yield command


def bare(line: str) -> str:
    """A line of a block without prompt and comment."""
    return re.sub(r"^\$ | +#.*|   .*", "", line)


def of_sentences(page: str) -> Iterator[str]:
    """The commands in sentences and tables."""
    prose = re.sub(r"^```.*?^```", "", (ROOT / "docs" / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        if PROGRAM.match(command := " ".join(span.split())):
            yield command


TYPED = {page: list(of_blocks(page)) for page in PAGES}
COMMANDS = {page: [*typed, *of_sentences(page)] for page, typed in TYPED.items()}


class AskedError(BaseException):
    """A program has understood its arguments, and its work would begin."""


def require(command: str, config: pytest.Config, patch: pytest.MonkeyPatch) -> None:
    """Fails unless a program, what it is to do and its options are there; a word in capitals stands for any."""
    program, *words = shlex.split(re.sub(rf"^{SETTINGS}|(?: > | && ).*", "", command))
    match program, words:
        case ("pytest", [*given]) | ("python", ["-m", "pytest", *given]):
            require_tests(given, config)
        case "python", ["-m", module, *given]:
            require_module(module, given, patch)
        case "python", ["-c", code]:
            exec(code, {})
        case "make", _:
            require_make(words)
        case "snakemake", _:
            require_snakemake(words)
        case "dvc", _:
            require_dvc(words)
        case "pip", _:
            named = [value for option, value in pairwise(words) if option in ("-c", "-r")]
            assert [name for name in named if not (ROOT / name).is_file()] == []
        case (("deq-flow" | "deq-vision" | "deq-sequence"), _):
            assert is_name(command) or not status(program, words)


def is_name(command: str) -> bool:
    """Whether it is what sentences call a command of ours by, without arguments: `deq-flow study evaluate`."""
    program, _, words = command.partition(" ")
    if not program.startswith("deq-"):
        return False
    module = program.replace("-", "_")
    known = importlib.import_module(f"{module}.cli").COMMANDS.values()
    studies = importlib.import_module(f"{module}.commands.study").STUDIES
    subjects = {f"study {name}" for name in studies.stages} | {f"report {name}" for name in studies.reports}
    return words in {name for names in known for name in names} | subjects


def status(program: str, words: Sequence[str]) -> int | str | None:
    """How a program ends."""
    main = importlib.import_module(f"{program.replace('-', '_')}.cli").main
    return ending(lambda: main(words))


def ending(run: Callable[[], object]) -> int | str | None:
    """The status that a run ends with."""
    try:
        run()
    except SystemExit as ended:
        return ended.code
    return 0


def looked_up(command: Callable[..., None], prog: str) -> Callable[..., None]:
    """In the place of a command: only looks whether it has what it asks for, and there is what it names."""

    @functools.wraps(command)
    def begin(*values: object, **named: object) -> None:
        given = inspect.signature(command).bind(*values, **named).arguments
        studies: Studies | None = getattr(command, "__self__", None)
        match command.__name__:
            case "train" if not given.get("template"):
                asked(data=given.get("data"))
                asked(out=given.get("out"))
            case "study" if studies and not given["stage"].isupper():
                case_of(found(studies.stages, given["stage"], "stage").case, given["case"])
            case "report" if studies and not given["name"].isupper():
                found(studies.reports, given["name"], "report")

    return begin


def require_tests(words: Sequence[str], config: pytest.Config) -> None:
    for word in words:
        if word.startswith("-"):
            config.getoption(word.partition("=")[0])  # ValueError where there is none
        assert not word.startswith("tests/") or any(ROOT.glob(word))


def require_module(module: str, words: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Asks the parser of a module; one without a parser may have words, which it takes as they are."""
    name, source = run_as(module)
    if "argparse" not in source:
        assert not words or "sys.argv" in source
        return
    parse = argparse.ArgumentParser.parse_args

    def ask(self: argparse.ArgumentParser, *given: Any) -> None:
        parse(self, *given)
        raise AskedError

    with patch.context() as within, contextlib.suppress(AskedError):
        within.delitem(sys.modules, name, raising=False)
        within.setattr(sys, "argv", [module, *words])
        within.setattr(argparse.ArgumentParser, "parse_args", ask)
        assert not ending(lambda: runpy.run_module(module, run_name="__main__"))


def run_as(module: str) -> tuple[str, str]:
    """The name and the source of what `python -m` runs."""
    spec = find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        return run_as(f"{module}.__main__")
    if spec is None or spec.origin is None:
        raise AssertionError(f"there is no module {module}")
    return module, Path(spec.origin).read_text()


def require_make(words: Sequence[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    for word in words:
        variable, equals, value = word.partition("=")
        assert re.search(rf"^{variable} :=" if equals else rf"^{word}:", text, re.MULTILINE)
        assert variable != "TARGET" or set(value.split()) <= TARGETS


def require_snakemake(words: Sequence[str]) -> None:
    own = " ".join(words).replace("--cores N", "--cores 1")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        own = re.sub(r"--slurm-\S+ \S+", "", own)
    given = snakemake().parse_args(own.split())
    assert set(given.targets) <= TARGETS
    assert [folder for folder in given.profile or () if not (ROOT / folder / "config.yaml").is_file()] == []


@functools.cache
def snakemake() -> argparse.ArgumentParser:
    """Its parser, which takes a fifth of a second to make."""
    return get_argument_parser()


def require_dvc(words: Sequence[str]) -> None:
    given = get_main_parser().parse_args(words)
    if given.cmd in ("repro", "run"):
        assert {target for target in given.targets if not target.isupper()} <= STAGES
    for change in getattr(given, "set_param", None) or ():
        if change != "..." and not change.startswith("+"):
            reduce(lambda value, key: value[key], change.partition("=")[0].split("."), mini())


@functools.cache
def mini() -> Mapping[str, Any]:
    """The numbers of that profile."""
    return profile("mini")
