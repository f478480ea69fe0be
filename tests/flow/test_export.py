"""Exported networks compute what the network itself does."""

import importlib.util
import io
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.parity import released_state
from tests.flow.test_models_network import SMALL, pair

import deq_core as deq
import deq_flow
from deq_flow import cli
from deq_flow.export import ExportError, FixedSteps, export, plain
from deq_flow.networks import Network

NARROW = SMALL | {"blocks": 1}


def network(name: str, **overrides: Any) -> Network:
    torch.manual_seed(0)
    return deq_flow.build(name, **NARROW, **overrides).eval()


NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "damped": ("deq-flow-base", {"solver": deq.FixedPointIteration(damping=0.2)}),
    "anderson": ("deq-flow-base", {"solver": deq.Anderson(window=3)}),
    "broyden": ("deq-flow-base", {"solver": deq.Broyden()}),
    "positions": ("deq-flow-mini", {"unknown": "position", "attention": "global"}),
    "on the fly": ("deq-flow-base", {"correlation": "on-the-fly"}),
    "raft": ("raft", {}),
    "gma": ("gma", {"attention_by": "both", "attention_positions": 9}),
    "small": ("raft-small", {"upsampling": "bilinear", "gru": "square"}),
}


@pytest.mark.parametrize("which", list(NETWORKS))
def test_the_plain_module_computes_what_the_network_does(which: str) -> None:
    name, overrides = NETWORKS[which]
    model = network(name, **overrides).double()
    with torch.no_grad():
        for steps in (1, 4):
            expected = model(*pair(37, 40), steps=steps).flow
            torch.testing.assert_close(FixedSteps(model, steps)(*pair(37, 40)), expected)


@pytest.mark.parametrize("which", list(NETWORKS))
def test_torchscript_computes_what_the_network_does(which: str, tmp_path: Path) -> None:
    name, overrides = NETWORKS[which]
    result = export(
        network(name, **overrides), tmp_path / "flow.pt", format="torchscript", height=37, width=40, steps=3
    )
    assert result.difference is not None
    assert result.difference < 1e-4
    assert result.largest > 1e-3


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_onnx_computes_what_the_network_does(tmp_path: Path) -> None:
    import onnxruntime

    name, overrides = NETWORKS["damped"]
    model, path = network(name, **overrides), tmp_path / "flow.onnx"
    result = export(model, path, format="onnx", height=37, width=40, steps=2)
    assert result.difference is not None
    assert result.difference < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    first, second = pair(37, 40)  # other images than those of the export and of its own check
    (flow,) = session.run(["flow"], {"image1": first.numpy(), "image2": second.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(flow), model(first, second, steps=2).flow, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("solver", [deq.Broyden(), deq.Anderson()], ids=lambda solver: solver.kind)
def test_a_solver_that_onnx_cannot_express_is_named(solver: deq.Solver, tmp_path: Path) -> None:
    model = network("deq-flow-base", solver=solver)
    with pytest.raises(ExportError, match=r"(Broyden|Anderson) solves linear systems, which ONNX cannot express"):
        export(model, tmp_path / "flow.onnx", format="onnx", height=37, width=40, steps=3)
    assert not (tmp_path / "flow.onnx").exists()


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: FixedSteps, image1: torch.Tensor, image2: torch.Tensor) -> torch.Tensor:
        return 0 * image1[:, :2] + 7

    monkeypatch.setattr(FixedSteps, "forward", wrong)
    with pytest.raises(ExportError, match=r"flow.pt: the exported flow differs from the network's by 7"):
        export(network("raft"), tmp_path / "flow.pt", format="torchscript", height=37, width=40, steps=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("wrong", "least"), [({"height": 8}, 16), ({"width": 15}, 16), ({"steps": 0}, 1)])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int], least: int, tmp_path: Path) -> None:
    ((name, value),) = wrong.items()
    numbers = {"height": 16, "width": 16, "steps": 1} | wrong
    with pytest.raises(ExportError, match=f"{name}: expected at least {least}, got {value}"):
        export(network("raft"), tmp_path / "flow.pt", format="torchscript", **numbers)


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


def test_a_released_file_is_converted_and_exported_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, ours, out = tmp_path / "raft-small.pth", tmp_path / "model.safetensors", tmp_path / "flow.pt"
    torch.save({f"module.{name}": value for name, value in released_state("raft_small").items()}, source)
    cli.main(["convert", str(source), str(ours)])
    *said, last = capsys.readouterr().out.splitlines()
    assert "raft, hidden 96, context 64" in said[-1]
    assert json.loads(last)["bytes"] == ours.stat().st_size
    size = ["--height", "32", "--width", "40", "--steps", "2"]
    cli.main(["export", str(ours), "--format", "torchscript", "--out", str(out), *size])
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["difference"] < 1e-3
    assert metrics["bytes"] == out.stat().st_size
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
        module = torch.jit.load(io.BytesIO(out.read_bytes()))
        torch.testing.assert_close(module(*pair()), deq_flow.load(ours)(*pair(), steps=2).flow, rtol=1e-3, atol=1e-3)
    with pytest.raises(SystemExit, match=r"deq-flow: .*nowhere: no such checkpoint"):
        cli.main(["convert", str(tmp_path / "nowhere"), str(ours)])
