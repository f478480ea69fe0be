"""A layer written in YAML is the layer written in Python."""

from pathlib import Path

import pytest
import torch

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.config import ConfigError, flatten
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, StopConfig


def layer(tmp_path: Path, text: str) -> deq.nn.DEQ:
    path = tmp_path / "layer.yaml"
    path.write_text(text)
    return config.load(LayerConfig, path).build()


def test_every_part_reaches_the_layer(tmp_path: Path) -> None:
    built = layer(
        tmp_path,
        """
        solver: {kind: anderson, window: 3}
        stop: {max_steps: 30, tol: 1e-9, norm: max, relative: false}
        adjoint: {kind: implicit, solver: {kind: broyden, memory: 7}, stop: {max_steps: 20, tol: 1e-8, norm: rms}}
        eval_stop: {max_steps: 60}
        """,
    )
    assert built.solver == deq.Anderson(window=3)
    assert built.stop == deq.Stop(max_steps=30, tol=1e-9, norm=deq.max_norm, relative=False)
    stop = deq.Stop(max_steps=20, tol=1e-8, norm=deq.rms_norm)
    assert built.adjoint == deq.Implicit(deq.Broyden(memory=7), stop, on_failure="ignore")
    assert built.eval_stop == deq.Stop(max_steps=60, tol=None)
    assert built.on_failure == "ignore"


def test_a_stop_by_parts_is_written_and_read_back(tmp_path: Path) -> None:
    text = """
        solver: {kind: fixed_point_iteration}
        stop: {max_steps: 30, parts: [{tol: 1e-3}, {tol: 0.02, relative: false, norm: rms}, {tol: null}]}
        adjoint: {kind: phantom}
        """
    built = layer(tmp_path, text)
    flow = deq.Part(0.02, relative=False, norm=deq.rms_norm)
    assert built.stop == deq.Stop(30, parts=(deq.Part(1e-3), flow, deq.Part(None)))
    assert LayerConfig.of(built).build().stop == built.stop
    assert flatten(LayerConfig.of(built))["stop.parts.1.norm"] == "rms"


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ("tol: 1e-3, parts: [{tol: 1e-3}]", "stop: with parts, tol, relative and norm must be each part's own"),
        ("parts: [{tol: 0}]", r"stop.parts.0: tol of a part must be None or above 0, got 0"),
        ("parts: [{tol: null}]", "stop: parts must have a tolerance"),
        ("parts: [{relative: false}]", "stop.parts.0.tol"),
        ("parts: [{tol: 1e-3, unit: px}]", "stop.parts.0.unit"),
    ],
)
def test_what_is_wrong_in_a_stop_by_parts_is_named(tmp_path: Path, stop: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layer(tmp_path, f"{{solver: {{kind: anderson}}, stop: {{max_steps: 9, {stop}}}, adjoint: {{kind: phantom}}}}")


def test_a_reversible_layer_names_its_solver_twice(tmp_path: Path) -> None:
    text = "{solver: {kind: %s}, stop: {max_steps: 9}, adjoint: {kind: reversible}}"
    assert layer(tmp_path, text % "reversible").solver == deq.Reversible()
    with pytest.raises(ConfigError, match="leave solver out or pass the same"):
        layer(tmp_path, text % "anderson")


def test_the_layer_solves_and_differentiates() -> None:
    stop = StopConfig(max_steps=60, tol=1e-12)
    built = LayerConfig(
        solver=deq.Anderson(), stop=stop, adjoint=ImplicitConfig(solver=deq.Broyden(), stop=stop)
    ).build()
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    value = built(lambda z: slope * z + 1, torch.zeros(1, 3, dtype=torch.float64)).value
    value.sum().backward()
    assert torch.allclose(value, torch.full_like(value, 2.0))
    assert slope.grad is not None
    assert slope.grad.item() == pytest.approx(3 / 0.5**2)  # d/ds of 1 / (1 - s), three times


def test_a_solver_s_own_check_names_its_key(tmp_path: Path) -> None:
    body = "{solver: {kind: broyden, memory: 0}, stop: {max_steps: 0}, adjoint: {kind: unrolled}}"
    with pytest.raises(ConfigError) as caught:
        layer(tmp_path, body)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["solver", "stop"]
