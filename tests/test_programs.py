"""The three programs are used in one manner."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest
from docstring_parser import parse

from deq_core.experiment import commands

PROGRAMS = ("flow", "vision", "sequence")
COMMANDS = [
    pytest.param(command, id=f"{program}-{command.__name__}")
    for program in PROGRAMS
    for command in commands.functions(importlib.import_module(f"deq_{program}.cli").COMMANDS)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_has_help(command: Callable[..., None]) -> None:
    told = {one.arg_name for one in parse(command.__doc__ or "").params if one.description}
    assert told == set(inspect.signature(command).parameters)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_tells_its_version_and_is_a_module_too(program: str) -> None:
    asked = subprocess.run([sys.executable, "-m", f"deq_{program}", "--version"], capture_output=True, text=True)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout == f"deq-{program} {version(f'deq-{program}')}\n"
