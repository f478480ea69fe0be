"""Two processes train as one does on the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.core.experiment.lanes import trained
from tests.core.experiment.lesson import lesson

from deq_core.experiment.config import ConfigError
from deq_core.experiment.distributed import Workers, become, device, workers
from deq_core.experiment.tables import read_rows

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which two processes have done the lesson, and what they printed of lanes of their own."""
    folder = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "deq_core.experiment.distributed", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "tests.core.experiment.lanes", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(two: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = two
    model, history = lesson(tmp_path, accumulate=2)
    found = read_rows(folder / "out" / "history.csv")
    assert [row["step"] for row in found] == [row["step"] for row in history]
    for row, expected in zip(found, history, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-12)
        assert row["largest"] == pytest.approx(expected["largest"], rel=1e-12)
        if "val" in expected:
            assert row["val"] == pytest.approx(expected["val"], rel=1e-9)
    tensors = load_file(folder / "out" / "model.safetensors")
    for name, parameter in model.named_parameters():
        # Batch normalisation takes away what this bias adds: its gradient is rounding, which Adam's division magnifies.
        floor = 1e-9 if name == "0.bias" else 0.0
        assert torch.allclose(tensors[name], parameter, rtol=1e-12, atol=floor), name
    for name, buffer in model.named_buffers():
        assert torch.allclose(tensors[name], buffer, rtol=1e-9), name


@pytest.mark.slow
def test_two_processes_resume_with_what_each_handed_on(two: tuple[Path, str], tmp_path: Path) -> None:
    _, printed = two
    expected = trained(tmp_path, accumulate=2)
    assert [row["loss"] for row in json.loads(printed)] == pytest.approx([row["loss"] for row in expected], rel=1e-12)


@pytest.mark.parametrize(("asked", "started"), [(1, 2), (4, 1), (2, 4)])
def test_torchrun_with_other_processes_than_the_recipe_s_is_refused(
    asked: int, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(started))
    become("deq_flow.cli", [], started)
    with pytest.raises(ConfigError, match=rf"processes: expected {started}, .*, got {asked}"):
        become("deq_flow.cli", [], asked)


def test_a_process_without_a_gpu_of_its_own_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="processes: expected at most 2, one for each GPU"):
        device("cuda")


def test_a_process_alone_shares_and_sums_nothing() -> None:
    with workers(torch.device("cpu")) as alone:
        assert alone == Workers(rank=0, size=1)
        tensor = torch.ones(3)
        alone.sum_([tensor])
        assert tensor.equal(torch.ones(3))
        assert list(alone.share([1, 2, 3])) == [1, 2, 3]
        assert alone.gathered({"a": tensor})["a"].equal(tensor)
    assert not torch.distributed.is_initialized()


def test_batches_are_dealt_in_turn() -> None:
    dealt = [list(Workers(rank, 3).share(range(7))) for rank in range(3)]
    assert dealt == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.slow
def test_a_process_that_fails_says_why_without_a_traceback_of_the_launcher(tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text("import sys; sys.exit('data: expected a folder')\n")
    given = ["--standalone", "--nproc-per-node", "2", str(script)]
    command = [sys.executable, "-m", "deq_core.experiment.distributed", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "data: expected a folder" in done.stderr
    assert "Traceback" not in done.stderr
