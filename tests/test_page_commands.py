"""The commands that README and pages show: all are there, and each is run by a test, or it is said why none does.

Those of pages on demos, evaluation, streaming and text are run here, one after the other, in a folder that has what the
page speaks of; others where they are at home.
"""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dvc.cli import DvcParserError
from tests import test_guides, test_training_page
from tests.flow import test_fine_tune
from tests.flow.parity import released_state
from tests.flow.small import equilibrium, write_kitti_set, write_sintel
from tests.guides import ROOT
from tests.page_commands import COMMANDS, TYPED, bare, is_name, looked_up, require, status
from tests.profiles import SMOKE
from tests.test_strangers_path import PAIRS, PICTURES, TEXT, VIDEO
from tests.workflows.test_end_to_end import CHOSEN, SHOWN, SWEEP

import deq_core as deq
import deq_vision
from deq_core.experiment import commands
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.data.images import write_image
from deq_core.experiment.data.photographs import TEST, load_all
from deq_core.experiment.media import video_file
from deq_flow.data.mini.generated import Generated, GeneratedConfig
from deq_flow.params import EquilibriumModel
from deq_vision.data.mini.write import MiniSets, write_mini
from deq_vision.data.mini.write_digits import MiniDigitsConfig
from deq_vision.data.mini.write_street import MiniStreetConfig

ELSEWHERE = {
    "deq-flow demo 0 --out flow": "needs a camera; tests/flow/test_demo_command.py has one",
    "python -m benchmarks.stream.speed results/vision/train/street-0 --data data/vision/street": "takes minutes; "
    "tests/vision/test_streaming.py runs it small",
}
"""Commands of pages that are run here but for them, and why."""
NOT_RUN = {
    r"make (test( WORKERS=\d+)?|lint)|.*pytest .*": "runs tests or checks",
    r"make install|\S*pip install .*|sudo apt-get .*|podman .*": "fetches packages",
    r"python -c .*|.*--help|deq-flow --tyro-print-completion .*": "has no work: `require` runs it",
    r"mkdir .*|export .*|RECIPE=.*": "is the shell's",
    r"make reproduce.*|snakemake (--(cores|forceall) .*|--forceall|\w+)|dvc (--wait-for-lock )?repro.*": "takes hours; "
    "tests/workflows/test_end_to_end.py runs a pipeline, and tests/workflows/test_snakefile.py plans them all",
    r".*snakemake --profile .*": "needs a cluster; tests/slurm and tests/kubernetes have one of one machine",
    r"snakemake --(lint|report).*": "tests/workflows/test_snakefile.py and tests/workflows/test_end_to_end.py",
    r"dvc .*": "is DVC's own, on results that a checkout without a run has not",
    r"make report|python -m workflows\.page": "tests/workflows/test_page.py",
    r"make docs": "tests/test_site.py",
    r"python -m docs\.signatures": "tests/core/test_api.py",
    r"make rehearse": "takes an hour; tests/workflows/test_rehearse.py",
    r"make release-check|python -m release\..*": "takes minutes; tests/test_release.py",
    r"make ui|mlflow ui|python -m deq_core\.experiment\.tracking\.ui .*": "tests/core/experiment/test_ui.py",
    r"\S*jupyter lab .*": "is for a browser; tests/test_pages.py runs the notebook",
    r"mlflow models serve .*|deq-\w+ register \w.*": "tests/core/experiment/test_models.py",
    r"python -m deq_core\.experiment\.tracking\.find .*": "tests/core/experiment/test_find.py",
    r"python -m deq_core\.experiment\.tracking\.send": "tests/core/experiment/test_unsent.py",
    r"python -m deq_core\.experiment\.tracking\.sender": "tests/core/experiment/test_sender.py",
    r"python -m workflows\..*": "changes this checkout, or asks for its results; tests/workflows, tests/test_readme.py",
    r"python -m benchmarks\..*": "takes minutes; tests run most of them small",
    r"python -m tests\.fuzz .*": "tests/fuzz/test_readers.py runs fewer",
    r"python -m deq_flow": "tests/test_programs.py",
    r"deq-\w+ download NAME.*": "fetches a published set",
    r"deq-\w+ (train-shipped|.* --params) .*": "makes or measures what ships, for hours",
    r"deq-flow (convert|export) .*\..*": "needs a release; tests/flow/test_export.py",
}
"""Patterns of others, of which the first counts, and why no test runs them as they stand, or which runs the like."""
FORMS = {
    r"deq-vision train --template .*": "tests/vision/test_training.py",
    r"deq-\w+ (train|download|study|report) .*": "is of a stage; tests/workflows/test_sections_read.py begins them all",
    r"deq-sequence generate .*": "takes longer than that of sequence.md, which is run",
    r"deq-\w+ .*\b[A-Z]+\b.*": "is a form; tests/flow, tests/vision and tests/sequence run its command on small files",
}
"""The same of those in sentences and tables."""


def frames(count: int) -> list[torch.Tensor]:
    """Of a scene that moves, (3, 96, 128)."""
    pairs = Generated(GeneratedConfig(height=96, width=128), load_all(TEST), kind=0, count=1)
    return [pairs[0].image1.roll(-2 * number, dims=2) for number in range(count)]


def film() -> None:
    """holiday.mp4, frames/, and a picture before and after."""
    video_file.write(Path("holiday.mp4"), frames(3))
    for number, image in enumerate(frames(2)):
        write_image(Path("frames", f"{number}.png"), image)
    for name, image in zip(("before", "after"), frames(2), strict=True):
        write_image(Path(f"{name}.png"), image)


def released(variant: str, name: str) -> None:
    """A file as a release has it."""
    torch.save(released_state(variant), name)


def demo() -> None:
    film()
    released("v2_b", "deq-flow-B-things-test-3x.pth")


def evaluation() -> None:
    released("v2_b", "deq-flow-H-things-test-3x.pth")
    layer = LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=2), adjoint=deq.Phantom(steps=1))
    checkpoint.save(
        Path("CHECKPOINT/model.safetensors"), equilibrium(), EquilibriumModel(name="deq-flow-mini", layer=layer)
    )
    for split, of_kitti in (("training", "training"), ("test", "testing")):
        write_sintel(Path("data"), split, height=64, width=64)
        write_kitti_set(Path("data"), of_kitti, height=64, width=64)


def streaming() -> None:
    film()
    write_image(Path("street.png"), frames(1)[0])
    shutil.copytree(Path(deq_vision.__file__).parent / "checkpoints/street", "results/vision/train/street-0")
    street = MiniStreetConfig(train_streets=1, val_streets=1, test_streets=2)
    write_mini(Path("data/vision"), MiniSets(digits=MiniDigitsConfig(train=5, val=1, test=1), street=street))
    shutil.copy(SMOKE, "params.yaml")


PAGES: dict[str, Callable[[], None]] = {
    "demo.md": demo,
    "evaluation.md": evaluation,
    "sequence.md": lambda: None,
    "streaming.md": streaming,
}
LEAVE = {
    "demo.md": ["flow/demo.json"],
    "evaluation.md": ["results/H-3x-sintel/metrics.json", "submission-sintel", "submission-kitti/flow/000001_10.png"],
    "streaming.md": ["seen.mp4", "cold.mp4", "seen/street.png.png", "results/stream/summary.csv"],
}
"""What is there when all commands of a page have run."""


RUN = {
    *(command for page in (*PAGES, *test_guides.PAGES) for command in TYPED[page]),
    *map(bare, (*VIDEO, *PICTURES, *PAIRS, *TEXT, *test_training_page.COMMANDS, *test_fine_tune.COMMANDS)),
    *map(bare, (*SHOWN.splitlines(), *SWEEP.splitlines(), *CHOSEN.splitlines())),
} - ELSEWHERE.keys()
"""What tests run as it stands, but for names of files, and numbers that would take long."""


@pytest.mark.slow
@pytest.mark.usefixtures("tracking_database")
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_they_say(page: str) -> None:
    PAGES[page]()
    ran = [command for command in TYPED[page] if command in RUN]
    assert ran
    for command in ran:
        program, *words = shlex.split(command.replace(" --device cuda", ""))
        assert not status(program, words), command
    assert [place for place in LEAVE.get(page, ()) if not Path(place).exists()] == []


@pytest.mark.parametrize("page", [page for page in COMMANDS if COMMANDS[page] and not page.startswith("adding-")])
def test_the_commands_of_a_page_are_there(
    page: str, pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names, targets, options and values; what a page adds is there where `test_guides` has added it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "careful", looked_up)
    for command in COMMANDS[page]:
        require(command, pytestconfig, monkeypatch)


@pytest.mark.parametrize(
    "command",
    [
        *("make reproduced", "make reproduce TARGETS=flow", 'make reproduce TARGET="flow visions"'),
        *("snakemake --core-count 8 all", "snakemake --cores 8 flows", "snakemake --profile profiles/none --dry-run"),
        *("dvc plot show", "dvc repro flow_report", "dvc exp run --set-param flow.train.deq.optim.rate=1"),
        *(
            "python -m benchmarks.flow.none",
            "python -m workflows.page --out OUT",
            "python -m benchmarks.gpu --to OUT",
        ),
        *("pytest --no-such-option", "python -m pytest tests/none", "pip install -r none.txt"),
        *("deq-flow show", "deq-flow demo VIDEO --folder OUT", "deq-flow demo --out OUT", "deq-flow train --data DATA"),
        *("deq-flow study evaluated network=deq --out OUT", "deq-flow study evaluate method=deq --out OUT"),
        "deq-vision report errors --results RESULTS --out OUT",
    ],
)
def test_a_command_that_is_not_there_is_found(
    command: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "careful", looked_up)
    with pytest.raises((AssertionError, SystemExit, ValueError, KeyError, DvcParserError)):
        require(command, pytestconfig, monkeypatch)


def test_every_command_is_run_by_a_test_or_it_is_said_why_not() -> None:
    typed = {command for page in TYPED.values() for command in page}
    shown = {command for page in COMMANDS.values() for command in page if not is_name(command)}
    known = {**NOT_RUN, **FORMS}
    left = shown - RUN - ELSEWHERE.keys()
    why = {
        command: next((one for one in (NOT_RUN if command in typed else known) if re.fullmatch(one, command)), None)
        for command in left
    }
    assert [command for command, one in why.items() if one is None] == []
    assert (known.keys() - set(why.values()), ELSEWHERE.keys() - shown) == (set(), set()), "is on no page any more"
    places = re.findall(r"tests/[\w/]+(?:\.py)?", " ".join([*ELSEWHERE.values(), *known.values()]))
    assert [place for place in places if not (ROOT / place).exists()] == []
