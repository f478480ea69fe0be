"""A stage depends on what its command runs, so that no result outlives its code, and on nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.core.pages import with_table
from dvc.repo import Repo
from tests.profiles import ROOT

from workflows import code, edits
from workflows.engines import commands

COMMANDS = {stage: command for stage, (_, command) in edits.stages().items()}
TRAININGS = {stage for stage, command in COMMANDS.items() if command.endswith(("train", "pretrain", "study gradients"))}
PAGES = {stage for stage, command in COMMANDS.items() if "report" in command or "plot" in command}
FITS = {"delta_sine", "delta_inr"}
DATA = {stage for stage, command in COMMANDS.items() if command == "download"}
COSTS = {stage for stage, command in COMMANDS.items() if command == "study training-costs"}


def of(pipeline: str) -> set[str]:
    return {stage for stage in edits.stages() if stage.startswith(pipeline)}


def test_a_stage_depends_on_the_code_of_its_command() -> None:
    definitions = commands.definitions(ROOT / "dvc.yaml")
    for name, (program, command) in edits.stages().items():
        stage = definitions[name].get("do", definitions[name])
        listed = [path for path in stage["deps"] if path.startswith(("results/code/", "packages/"))]
        assert [path for path in listed if "/checkpoints/" not in path] == [
            f"results/code/{'-'.join([program, *command.split()])}.txt"
        ], name


def test_the_table_of_the_docs_is_what_the_code_says() -> None:
    page = edits.PAGE.read_text()
    assert with_table(page, "edits", edits.table()) == page, "run: python -m workflows.edits"
    nothing = {room for room, patterns in edits.ROWS.items() if edits.said(edits.after(patterns)) == "nothing"}
    assert {"tracking", "the command line", "demos", "files, errors, progress"} <= nothing


@pytest.mark.parametrize(
    ("file", "stages", "also"),
    [
        ("deq_core/_solve/iterate.py", COMMANDS.keys() - PAGES - DATA, PAGES),
        ("deq_core/experiment/training/fit.py", TRAININGS | FITS, PAGES),  # a study's page knows its cases
        ("deq_core/experiment/study/plotting.py", {"sequence_report", "vision_report"}, PAGES),
        ("deq_flow/data/augment.py", TRAININGS & of("flow"), of("flow") | of("delta") - FITS),
        ("deq_flow/training/train.py", TRAININGS & of("flow"), set()),
        ("deq_vision/reports/scores.py", {"vision_report"}, set()),
        ("deq_vision/reports/stability.py", {"stability_report"}, set()),
        ("deq_sequence/data/mini.txt.xz", of("sequence") - PAGES - COSTS, of("sequence") - COSTS),
        ("deq_core/experiment/tracking/run.py", set(), set()),
        ("deq_core/experiment/commands.py", set(), set()),
        ("deq_sequence/checkpoints/default/model.safetensors", {"sequence_paths_shipped"}, set()),
        ("deq_sequence/checkpoints/default/CARD.md", set(), set()),
    ],
)
def test_an_edit_runs_again_what_it_is_part_of(file: str, stages: set[str], also: set[str]) -> None:
    assert edits.exists(file)
    assert stages <= edits.after([file]) <= stages | also


def test_an_edit_is_told_of_in_any_folder_and_what_is_no_file_of_a_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "src" / "deq" / "packages" / "deq-core" / "src" / "deq_core"
    folder.mkdir(parents=True)
    (folder / "solve.py").touch()
    monkeypatch.setattr(code, "SOURCES", {"deq_core": folder})
    monkeypatch.setattr(edits, "reruns", lambda: {"deq_core/solve.py": {"flow_train"}})
    edits.main([str(folder / "solve.py")])
    assert capsys.readouterr().out == f"{folder / 'solve.py'}: flow_train\n"
    for other in (ROOT / "dvc.yaml", folder / "slove.py", folder):
        with pytest.raises(SystemExit, match=f"{other.name}: expected a file of a package"):
            edits.main([str(other)])


def test_each_name_of_what_leaves_no_trace_is_of_a_module_or_folder() -> None:
    modules = [
        ".".join([package, *path.relative_to(folder).with_suffix("").parts])
        for package, folder in code.SOURCES.items()
        for path in folder.rglob("*.py")
    ]
    assert code.NO_TRACE.keys() <= set(map(code.room, modules))


def test_prose_beside_a_checkpoint_is_nothing_that_dvc_reads() -> None:
    ignored = Repo(str(ROOT)).dvcignore.is_ignored_file
    for folder in ROOT.glob("packages/*/src/*/checkpoints/*"):
        assert [file.name for file in folder.iterdir() if ignored(str(file))] == ["CARD.md"]


def test_no_figure_and_no_report_trains_anything() -> None:
    for stage in TRAININGS:
        behind = code.behind(*edits.stages()[stage])
        pages = [file for file in behind if "/reports/" in file or Path(file).stem in ("plot", "plotting", "report")]
        assert [file for file in pages if "/config/" not in file] == []


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the packages to edit, which is looked at."""
    shutil.copytree(
        ROOT / "packages", tmp_path / "packages", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(
        code, "SOURCES", {name: tmp_path / path.relative_to(ROOT) for name, path in code.SOURCES.items()}
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "packages"
    forget()


LOOKED_AT = [("deq-flow", "train"), ("deq-sequence", "report perplexity")]


def forget() -> None:
    for cached in (code.entries, code.source, code.tree, code.digest, code.used, code.bindings):
        cached.cache_clear()


def seen() -> list[dict[str, str]]:
    forget()
    return [code.behind(*command) for command in LOOKED_AT]


def test_what_a_file_does_counts_and_what_it_says_or_an_editor_leaves_beside_it_does_not(
    checkout: Path,
) -> None:
    trains = [("deq-flow", "train")]
    said = [
        ("training/loss.py", '"""', "# a comment\n\n\n" + '"""Another word: '),
        ("commands/training.py", '"""Trains a network', '"""Fits a network'),
    ]
    before, package = seen(), checkout / "deq-flow/src/deq_flow"
    for name in (".loss.py.swp", "loss.py~", "#loss.py#"):
        (package / "training" / name).write_bytes(b"unsaved")
    for changes, out_of_date in (
        (said, []),
        ([("training/loss.py", "\ndef ", "\nADDED = 1\n\n\ndef ")], trains),
        ([("commands/training.py", '"chairs"', '"chair"')], trains),
    ):
        for file, old, new in changes:
            edit(package / file, old, new)
        after = seen()
        assert [
            command for command, was, now in zip(LOOKED_AT, before, after, strict=True) if was != now
        ] == out_of_date
        before = after


def edit(path: Path, old: str, new: str) -> None:
    """Replaces the first `old` in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_mistake_in_the_code_is_said_in_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkout / "deq-flow/src/deq_flow/training/loss.py"
    edit(path, '"""', 'def f(:\n"""')
    forget()
    assert code.main([]) == 1
    assert capsys.readouterr().err == f"{path}:1: invalid syntax\n"
