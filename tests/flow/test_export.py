"""Exported networks compute what the network itself does, on other batches and sizes than those of the export."""

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.parity import released_state
from tests.flow.test_models_network import SMALL, pair
from torch import Tensor

import deq_core as deq
import deq_flow
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_flow import cli
from deq_flow.config import Scales
from deq_flow.export import ExportError, FixedSteps, export, plain
from deq_flow.models.scales import coarse_to_fine, rescaled, resized
from deq_flow.networks import Network, build_network
from deq_flow.params import EquilibriumModel

NARROW = SMALL | {"blocks": 1}
BY_PART = deq.Stop(parts=(deq.Part(1e-3), deq.Part(0.02, relative=False, norm=deq.rms_norm)))


def network(name: str, **overrides: Any) -> Network:
    torch.manual_seed(0)
    return deq_flow.build(name, **NARROW, **overrides).eval()


NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "damped": ("deq-flow-base", {"solver": deq.FixedPointIteration(damping=0.2), "stop": BY_PART}),
    "anderson": ("deq-flow-base", {"solver": deq.Anderson(window=3)}),
    "broyden": ("deq-flow-base", {"solver": deq.Broyden()}),
    "attention": (
        "deq-flow-mini",
        {"unknown": "position", "attention": "global", "attention_by": "both", "attention_positions": 9},
    ),
    "on the fly": ("deq-flow-base", {"correlation": "on-the-fly"}),
    "raft": ("raft", {}),
    "gma": ("gma", {}),
    "small": ("raft-small", {"upsampling": "bilinear", "gru": "square"}),
}


SIZES = [(1, 37, 40), (3, 64, 32)]
"""Batch, height and width, none that of the export."""


@pytest.mark.parametrize("which", list(NETWORKS))
def test_the_plain_module_computes_what_the_network_does(which: str) -> None:
    name, overrides = NETWORKS[which]
    model = network(name, **overrides).double()
    with torch.no_grad():
        for steps in (1, 4):
            expected = model(*pair(37, 40), steps=steps).flow
            torch.testing.assert_close(FixedSteps(model, steps)(*pair(37, 40)), expected)
        base = torch.full_like(expected, 3.0)
        expected = model(*pair(37, 40), steps=2, base=base).flow
        torch.testing.assert_close(FixedSteps(model, 2)(*pair(37, 40), base), expected)


def test_a_program_from_the_command_line_computes_what_the_network_does_on_any_batch_and_size_and_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[bytes, torch.export.ExportedProgram]] = []
    load = torch.export.load

    def keep(file: io.BytesIO) -> torch.export.ExportedProgram:
        """What the command loads to see that it is right, which takes five seconds."""
        loaded.append((file.getvalue(), load(file)))
        return loaded[-1][1]

    monkeypatch.setattr(torch.export, "load", keep)
    own, out, scales = tmp_path / "model.safetensors", tmp_path / "flow.pt2", Scales(coarsest=48)
    layer = LayerConfig(solver=deq.Broyden(), stop=StopConfig(max_steps=2), adjoint=deq.Phantom(steps=1))
    described = EquilibriumModel(name="deq-flow-mini", layer=layer, scales=scales)
    torch.manual_seed(0)
    checkpoint.save(own, build_network(described), described)
    cli.main(["export", str(own), "--format", "torch", "--out", str(out), "--steps", "2"])
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["difference"] < 1e-4
    assert metrics["largest"] > 1e-3
    assert metrics["bytes"] == out.stat().st_size
    ((written, exported),) = loaded
    assert out.read_bytes() == written
    program, model = exported.module(), deq_flow.load(own)
    for size in SIZES:
        compare(model, program, size, base=True)
    first, second = pair(64, 72)
    with torch.no_grad():
        expected = coarse_to_fine(model, first, second, scales=scales).flow
        flow = torch.zeros(1, 2, 64, 72)
        for size in scales.sizes(64, 72):
            flow = program(resized(first, size), resized(second, size), rescaled(flow, size))
        torch.testing.assert_close(flow, expected, rtol=1e-3, atol=1e-3)
        with pytest.raises((AssertionError, RuntimeError), match=r"[Gg]uard|assert"):
            program(*pair(16, 12), torch.zeros(1, 2, 16, 12))


def compare(model: Network, exported: Callable[..., Tensor], size: tuple[int, int, int], *, base: bool = False) -> None:
    batch, height, width = size
    images = pair(height, width, batch)
    of_coarser = (torch.full((batch, 2, height, width), 3.0),) if base else ()
    with torch.no_grad():
        expected = model(*images, steps=2, base=next(iter(of_coarser), None)).flow
        torch.testing.assert_close(exported(*images, *of_coarser), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_onnx_computes_what_the_network_does_on_any_batch_and_size(tmp_path: Path) -> None:
    import onnxruntime

    name, overrides = NETWORKS["attention"]
    model, path = network(name, **overrides), tmp_path / "flow.onnx"
    result = export(model, path, format="onnx", steps=2)
    assert result.difference is not None
    assert result.difference < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(first: Tensor, second: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["flow"], {"image1": first.numpy(), "image2": second.numpy()})[0])

    for size in SIZES:
        compare(model, run, size)


@pytest.mark.parametrize("solver", [deq.Broyden(), deq.Anderson()], ids=lambda solver: solver.kind)
def test_a_solver_that_onnx_cannot_express_is_named(solver: deq.Solver, tmp_path: Path) -> None:
    model = network("deq-flow-base", solver=solver)
    with pytest.raises(ExportError, match=r"(Broyden|Anderson) solves linear systems, which ONNX cannot express"):
        export(model, tmp_path / "flow.onnx", format="onnx", steps=3)
    assert not (tmp_path / "flow.onnx").exists()


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: FixedSteps, image1: Tensor, image2: Tensor) -> Tensor:
        return 0 * image1[:, :2] + 7

    monkeypatch.setattr(FixedSteps, "forward", wrong)
    with pytest.raises(ExportError, match=r"flow.pt2: the exported flow differs from the network's by 7"):
        export(network("raft"), tmp_path / "flow.pt2", format="torch", steps=1)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="steps: expected at least 1, got 0"):
        export(network("raft"), tmp_path / "flow.pt2", format="torch", steps=0)


def test_a_state_that_only_a_release_returns_is_refused() -> None:
    with pytest.raises(ExportError, match="returned='v2' cannot be exported; load with returned='best'"):
        FixedSteps(network("deq-flow-base", returned="v2"), 2)


def test_exporting_leaves_the_network_as_it_was() -> None:
    model = network("deq-flow-base")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = plain(model)
    assert not any("original" in name for name in copy.state_dict())
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_released_file_is_converted_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, ours = tmp_path / "raft-small.pth", tmp_path / "model.safetensors"
    torch.save({f"module.{name}": value for name, value in released_state("raft_small").items()}, source)
    cli.main(["convert", str(source), str(ours)])
    *said, last = capsys.readouterr().out.splitlines()
    assert "raft, hidden 96, context 64" in said[-1]
    assert json.loads(last)["bytes"] == ours.stat().st_size
    with pytest.raises(SystemExit, match=r"deq-flow: .*nowhere: no such checkpoint"):
        cli.main(["convert", str(tmp_path / "nowhere"), str(ours)])
