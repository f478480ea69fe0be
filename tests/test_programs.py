"""The three programs are used in one manner."""

import contextlib
import importlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[1] / "packages"
PROGRAMS = ("flow", "vision", "sequence")
COMMANDS = [
    pytest.param(program, name, id=f"{program}-{name}")
    for program in PROGRAMS
    for names in importlib.import_module(f"deq_{program}.cli").COMMANDS.values()
    for name in names
]
CHANGES = {"steps", "lr", "batch-size", "network", "solver", "max-steps", "tolerance", "adjoint", "device", "threads"}


def printed(capsys: pytest.CaptureFixture[str], program: str, *arguments: str) -> str:
    """What a program prints."""
    with contextlib.suppress(SystemExit):
        importlib.import_module(f"deq_{program}.cli").main(arguments)
    return capsys.readouterr().out


def test_a_program_collects_garbage_once_it_is_imported() -> None:
    code = (
        "import deq_program, gc, sys; sys.argv = ['deq-flow', '--version']; deq_program.main(); print(gc.isenabled())"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines()[1:] == ["True"]


def options(page: str) -> dict[str, str]:
    """Options and positional arguments in a page of help, and what it says of each."""
    found: dict[str, str] = {}
    name = ""
    for line in (line for line in page.partition("\n\n")[2].splitlines() if line.startswith("  ")):
        word, _, said = re.sub(r"^  (\S.*?)(\s{2,}|$)", r"\1\n", line).partition("\n")
        if line.startswith("   "):
            found[name] = f"{found[name]} {line.strip()}".strip()
        elif name.count("{") > name.count("}"):  # of choices that go over the end of a line
            found[name := name + word] = found.pop(name) + said.strip()
        else:
            found[name := word] = said.strip()
    return found


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_every_option_of_every_command_has_help(program: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = options(printed(capsys, program, command, "--help"))
    assert len(found) > 1
    assert not [
        name
        for name, said in found.items()
        if re.match(r"-+\w|[A-Z[{]", name) and re.match(r"\((default|required)|$", said)
    ]
    assert not [name for name in found if "None" in name or name.startswith(("STR", "[STR", "PATH"))]


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_every_option_is_required_or_has_its_default_in_one_form(
    program: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = options(printed(capsys, program, command, "--help"))
    listed = {name: said for name, said in found.items() if re.match(r"--\w|[A-Z{]", name)}
    assert not [name for name, said in listed.items() if not re.search(r" \((required|default: .+)\)$", said)]
    assert not [name for name, said in found.items() if re.search(r"[Bb]y default|default: (None)?\)", said)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_names_the_stages_reports_and_sections(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    studies = importlib.import_module(f"deq_{program}.commands.study").STUDIES
    for command, names in (("study", studies.stages), ("report", studies.reports), ("schema", studies.sections)):
        found = options(printed(capsys, program, command, "--help"))
        assert any(f": {', '.join(names)}." in said for said in found.values()), command


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_list_of_commands_has_the_first_paragraph_of_each(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = printed(capsys, program, "--help").partition("(required)")[2].rstrip().splitlines()[1:]
    assert all(line.strip() for line in listed)
    assert sum("• " in line for line in listed) == len(
        [name for of, name in (case.values for case in COMMANDS) if of == program]
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_tells_its_version_and_is_a_module_too(program: str) -> None:
    asked = subprocess.run([sys.executable, "-m", f"deq_{program}", "--version"], capture_output=True, text=True)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout == f"deq-{program} {version(f'deq-{program}')}\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_torch_is_imported_is_a_line_and_its_status(program: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time; print('begun', flush=True); time.sleep(60)")
    declared = tomllib.loads((PACKAGES / f"deq-{program}" / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = declared[f"deq-{program}"].split(":")
    script = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it starts in the background
sys.argv = ["bin/deq-{program}", "--version"]
from {module} import {function}
{function}()
"""
    places = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    begun = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": places},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert begun.stdout is not None
    begun.stdout.readline()
    begun.send_signal(signal.SIGINT)
    _, told = begun.communicate(timeout=30)
    assert (begun.returncode, told) == (128 + signal.SIGINT, f"deq-{program}: interrupted\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_trains_by_options_of_the_same_names(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = {name.split()[0] for name in options(printed(capsys, program, "train", "--help"))}
    assert {f"--{name}" for name in CHANGES | {"seed", "data", "out", "start", "params"}} <= found


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_evaluates_and_checks_by_options_of_the_same_names(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, names in (
        ("evaluate", {"CHECKPOINT", "--data", "--out", "--device"}),
        ("check-data", {"NAME", "--data", "--released,"}),
    ):
        assert names <= {name.split()[0] for name in options(printed(capsys, program, command, "--help"))}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_template_says_more_than_its_numbers_and_is_short(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = printed(capsys, program, "train", "--template")
    assert page.startswith("# ")
    assert page.count("#") >= 8
    assert len(page.splitlines()) <= 50


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_training_asks_for_what_it_needs(program: str, tmp_path: Path) -> None:
    main = importlib.import_module(f"deq_{program}.cli").main
    with pytest.raises(SystemExit, match=f"deq-{program}: --data: expected a path, got none"):
        main(["train", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_completes_its_commands_and_options_in_bash(
    program: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"deq_{program}.cli").main(["--tyro-print-completion", "bash"])
    assert ended.value.code in (0, None)
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    for typed, offered in (("rep", "report"), ("train --par", "--params")):
        words = f"deq-{program} {typed}"
        script = (
            f"source completion; COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; "
            f"_tyro_deq_{program}; printf '%s\\n' ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert offered in done.stdout.split()
