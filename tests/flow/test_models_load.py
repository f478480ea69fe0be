"""`deq_flow.build` and `deq_flow.load`: every name and every kind of file, and what may be overridden."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.parity import recorded, released_state
from tests.flow.test_models_network import SMALL, pair

import deq_core as deq
import deq_flow
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config import load as load_config
from deq_flow import NAMES, RAFT, CheckpointError, DEQFlow, networks
from deq_flow.config import Converted
from deq_flow.networks import Stored, build_network, convert


def small(name: str, **overrides: Any) -> DEQFlow | RAFT:
    torch.manual_seed(0)
    return deq_flow.build(name, **SMALL, **overrides).eval()


@pytest.mark.parametrize("name", NAMES)
def test_every_network_keeps_the_contract(name: str) -> None:
    model = small(name)
    first, second = pair(33, 40, batch=2)
    with torch.no_grad():
        output = model(first, second, steps=2)
        after = model(second, first, output.state, steps=1)
    scale = model.size.scale
    assert output.flow.shape == (2, 2, 33, 40)
    assert output.flow_low.shape == (2, 2, -(-33 // scale), -(-40 // scale))
    assert after.flow.isfinite().all()
    assert isinstance(model, DEQFlow) == name.startswith("deq-flow-")
    if isinstance(model, DEQFlow):
        assert output.solution is not None
        assert len(output.solution.trace) == 2
    else:
        assert output.solution is None
    with torch.device("meta"):
        assert type(deq_flow.build(name)) is type(model), "at its own size"


@pytest.mark.parametrize("name", ["deq-flow-mini", "deq-flow-huge-v1-gma", "raft-small", "gma"])
def test_a_network_of_either_family_takes_and_refuses_overrides(name: str) -> None:
    model = small(name, correlation="on-the-fly")
    assert model.size.correlation == "on-the-fly"
    with pytest.raises(ValueError, match=r"has no option colour; it has .*correlation.*dropout"):
        small(name, colour="red")
    with pytest.raises(ValueError, match="correlation must be one of 'auto', 'all-pairs', 'on-the-fly', got 'no'"):
        small(name, correlation="no")
    with pytest.raises(ValueError, match="scale must be 4 or 8"):
        small(name, scale=2)
    if isinstance(model, DEQFlow):
        stop = deq.Stop(5, tol=None)
        chosen = small(name, solver=deq.Broyden(), stop=stop, adjoint=deq.JacobianFree())
        assert isinstance(chosen, DEQFlow)
        assert chosen.equilibrium.solver == deq.Broyden()
        assert (chosen.equilibrium.stop, chosen.equilibrium.eval_stop) == (stop, None)
        assert chosen.equilibrium.adjoint == deq.JacobianFree()
        with pytest.raises(TypeError, match="solver must be an object such as"):
            small(name, solver="anderson")
    else:
        chosen = small(name, steps=3)
        assert isinstance(chosen, RAFT)
        assert (chosen.steps, chosen.eval_steps) == (3, 3)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown network 'deq-flow-enormous'; known are deq-flow-tiny, .*gma"):
        deq_flow.build("deq-flow-enormous")


def released_file(variant: str, path: Path) -> Path:
    """A file of the variant's names and shapes, small because every number in it is one and the same."""
    keys = recorded("keys")[variant]["keys"]
    state = {f"module.{key}": torch.ones((), dtype=getattr(torch, kind)).expand(shape) for key, shape, kind in keys}
    torch.save(state, path)
    return path


NAMED = {
    "v2_tiny": ("deq-flow-tiny", {}),
    "v2_b": ("deq-flow-base", {}),
    "v2_l": ("deq-flow-large", {}),
    "v2_h": ("deq-flow-huge", {}),
    "v2_g_gma": ("deq-flow-gigantic-gma", {}),
    "v2_l_old": ("deq-flow-large-v1", {}),
    "v1_small": ("deq-flow-small", {}),
    "v1_b": ("deq-flow-base", {}),
    "v1_b_gma": ("deq-flow-base", {"attention": "global"}),
    "v1_h": ("deq-flow-huge", {"head": 256}),
    "v1_h_gma": ("deq-flow-huge-v1-gma", {}),
    "v2_b_nown": ("deq-flow-base", {"weight_norm": False}),
    "raft": ("raft", {}),
    "raft_small": ("raft-small", {}),
    "gma_original": ("gma", {}),
}


@pytest.mark.parametrize("variant", list(recorded("keys")))
def test_every_released_file_loads_as_the_network_it_is(variant: str, tmp_path: Path) -> None:
    model = deq_flow.load(released_file(variant, tmp_path / "released.pth"), correlation="on-the-fly")
    assert isinstance(model, DEQFlow) == variant.startswith("v")
    assert not model.training
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == recorded("keys")[variant]["trainable_parameters"]
    if variant in NAMED:
        name, options = NAMED[variant]
        with torch.device("meta"):
            expected = deq_flow.build(name, correlation="on-the-fly", **options)
        assert model.size == expected.size
        assert model.state_dict().keys() == expected.state_dict().keys()


@pytest.mark.parametrize("variant", ["v2_tiny_gma", "v2_tiny_nown", "v1_small", "raft_small", "gma_original"])
def test_a_released_file_and_what_it_is_converted_to_are_one_network(variant: str, tmp_path: Path) -> None:
    path, out = tmp_path / "released.pth", tmp_path / "ours" / "model.safetensors"
    torch.save({f"module.{key}": value for key, value in released_state(variant).items()}, path)
    loaded = deq_flow.load(path)
    about = convert(path, out)
    again = deq_flow.load(out)
    assert about.architecture == again.size == loaded.size
    assert type(again) is type(loaded)
    if isinstance(loaded, DEQFlow) and isinstance(again, DEQFlow):
        assert again.equilibrium == loaded.equilibrium
    states = again.state_dict()
    assert states.keys() == loaded.state_dict().keys()
    assert all(torch.equal(states[name], value) for name, value in loaded.state_dict().items())


def test_a_converted_network_computes_what_the_released_one_does(tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.pth", tmp_path / "model.safetensors"
    torch.save(released_state("v2_tiny_gma"), path)
    convert(path, out)
    stop = deq.Stop(3, tol=None)
    with torch.no_grad():
        flows = [deq_flow.load(place, stop=stop)(*pair()).flow for place in (path, out, out.parent)]
    assert torch.equal(flows[0], flows[1])
    assert torch.equal(flows[0], flows[2])


def test_a_network_of_ours_comes_back_as_it_was_trained(tmp_path: Path) -> None:
    for name, model in {"deq": DEQ_MODEL, "raft": RAFT_MODEL}.items():
        written = tmp_path / f"{name}.json"
        written.write_text(json.dumps(model))
        trained = build_network(load_config(Stored, written))
        checkpoint.save(tmp_path / name / "model.safetensors", trained, model)
        random = torch.get_rng_state()
        loaded = deq_flow.load(tmp_path / name)
        assert torch.equal(torch.get_rng_state(), random)
        with torch.no_grad():
            expected = trained.eval()(*pair()).flow
            assert torch.equal(loaded(*pair()).flow, expected)
        assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_overrides_reach_a_network_of_ours(tmp_path: Path) -> None:
    written = tmp_path / "model.json"
    written.write_text(json.dumps(DEQ_MODEL))
    checkpoint.save(tmp_path / "model.safetensors", build_network(load_config(Stored, written)), DEQ_MODEL)
    stop = deq.Stop(2, tol=None)
    model = deq_flow.load(tmp_path, solver=deq.Anderson(), stop=stop, correction=(), correlation="on-the-fly")
    assert isinstance(model, DEQFlow)
    assert (model.equilibrium.solver, model.equilibrium.stop) == (deq.Anderson(), stop)
    assert model.equilibrium.eval_stop is None
    assert model.size.correlation == "on-the-fly"
    with pytest.raises(ValueError, match=r"model.safetensors has no option hidden; it has .*solver"):
        deq_flow.load(tmp_path, hidden=7)


DEQ_MODEL: dict[str, Any] = {
    "kind": "deq",
    "name": "deq-flow-mini",
    "layer": {
        "solver": {"kind": "fixed_point_iteration", "damping": 0.1},
        "stop": {"max_steps": 4},
        "eval_stop": {"max_steps": 5},
        "adjoint": {"kind": "phantom", "steps": 2},
    },
    "correction": [2],
}
RAFT_MODEL = {"kind": "unrolled", "name": "raft-mini", "steps": 3}


def test_a_shipped_checkpoint_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.SHIPPED, "default", tmp_path / "default")
    with pytest.raises(CheckpointError, match="default: this installation lacks its shipped checkpoint"):
        deq_flow.load("default")
    torch.save(released_state("raft_small"), tmp_path / "raft.pth")
    convert(tmp_path / "raft.pth", tmp_path / "default" / "model.safetensors")
    assert isinstance(deq_flow.load("default", steps=2), RAFT)


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: no such checkpoint, and none of that name is shipped"):
        deq_flow.load("nowhere")
    cut = tmp_path / "cut.pth"
    torch.save(released_state("raft_small"), cut)
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut.pth: not a whole file of tensors .* download it again"):
        deq_flow.load(cut)
    convert_target = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match="cut"):
        convert(cut, convert_target)
    assert not convert_target.exists()
    with pytest.raises(CheckpointError, match=r"out.pth: a converted checkpoint is a \.safetensors file"):
        convert(cut, tmp_path / "out.pth")


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>quota exceeded</html>", b"\x80"])
def test_a_file_of_something_else_is_refused_with_how_it_begins(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "download.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        deq_flow.load(path)
    assert f"{path}: not a whole file of tensors" in str(caught.value)
    assert f"{len(content)} bytes that begin with {content[:16]!r}; download it again" in str(caught.value)


def test_a_file_of_more_than_tensors_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(
        CheckpointError, match=r"model.pth: expected tensors alone, got Python objects .* state_dict\(\)"
    ):
        deq_flow.load(path)
    torch.save({"weight": torch.zeros(2), "step": 3}, path)
    with pytest.raises(CheckpointError, match=r"expected a dictionary of tensors .*, got one with 'step': int"):
        deq_flow.load(path)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: expected a file, got a folder"):
        convert(tmp_path, tmp_path / "out.safetensors")


def test_a_checkpoint_without_its_configuration_is_refused(tmp_path: Path) -> None:
    torch.save(released_state("raft_small"), tmp_path / "raft.pth")
    convert(tmp_path / "raft.pth", tmp_path / "model.safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json: no such file; a checkpoint has its config.json beside it"):
        deq_flow.load(tmp_path)


def test_a_checkpoint_of_another_network_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    torch.save(released_state("raft_small"), tmp_path / "raft.pth")
    convert(tmp_path / "raft.pth", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(RAFT_MODEL))
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a complete checkpoint") as caught:
        deq_flow.load(tmp_path)
    for problem in ("missing mask.0.weight", "unexpected ", "misshapen fnet.conv2.weight"):
        assert problem in str(caught.value)


@pytest.mark.parametrize("sizes", [{"hidden": 10**9}, {"blocks": 2**62}, {"stages": [2**40, 2**40, 2**40]}])
def test_a_configuration_of_any_size_is_compared_with_the_file_before_memory_is_taken(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    about = Converted(family="raft", architecture=small("raft").size, weight_norm=False)
    checkpoint.save(tmp_path / "model.safetensors", small("raft"), about)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architecture"] |= sizes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no"):
        deq_flow.load(tmp_path)
