"""Networks by name and from files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.sequence.parity import recorded, released_state
from tests.sequence.small import small, some_tokens
from torch import Tensor, nn

import deq_core as deq
import deq_sequence
from deq_sequence import CheckpointError, build, load, load_vocabulary, save
from deq_sequence.data import vocabulary as vocabularies
from deq_sequence.data.vocabulary import learn
from deq_sequence.models.compat.convert import from_released


def released_file(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "pretrained.pkl"
    torch.save(state, path)
    return path


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_released_configuration_has_the_released_parameters() -> None:
    with torch.device("meta"):
        model = build("wt103")
    # The release counts three tied projections twice.
    assert numbers(model) + 700 * (175 + 43 + 10) == 97_851_488
    assert numbers(model.cell) == 69_753_000
    assert model.size.widths == (700, 175, 43, 10)
    assert model.size.edges == (0, 20_000, 40_000, 200_000, 267_735)


@pytest.mark.parametrize("name", deq_sequence.NAMES)
def test_every_name_builds_and_reads(name: str) -> None:
    sizes: dict[str, Any] = {"vocabulary": 400, "cutoffs": (50, 100, 200), "embedding": 64, "inner": 40}
    sizes |= {"width": 20, "heads": 2, "head_width": 10}
    model = build(name, **({} if name.startswith("mini") else sizes))
    tokens = some_tokens()
    output = model.train()(tokens, targets=tokens)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_variants_differ_as_released() -> None:
    (base, plain), (_, regularised), (pre, _) = (
        deq_sequence.VARIANTS[name] for name in ("wt103", "wt103-reg", "wt103-preln-reg")
    )
    assert (plain.stop.max_steps, plain.memory) == (30, 150)
    assert (regularised.stop.max_steps, regularised.memory) == (12, 300)
    assert (base.norm, pre.norm, pre.dropout, pre.attention_dropout) == ("post", "pre", 0.06, 0.01)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="known are wt103"):
        build("wt104")
    with pytest.raises(ValueError, match=r"no option depth; there are .*adjoint.*memory.*solver"):
        build("mini", depth=3)


def test_a_saved_network_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    stop = deq.Stop(17, tol=1e-5, norm=deq.rms_norm)
    adjoint = deq.Implicit(solver=deq.Broyden(), stop=deq.Stop(9, tol=1e-4))
    model = small(norm="pre", solver=deq.Broyden(memory=5), stop=stop, adjoint=adjoint, memory=3).float()
    save(tmp_path / "model.safetensors", model)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        loaded = load(path)
        assert loaded.size == model.size
        assert loaded.equilibrium == model.equilibrium
        assert not loaded.training
        with torch.no_grad():
            assert torch.equal(loaded(some_tokens()).log_probs, model(some_tokens()).log_probs)


def test_a_checkpoint_carries_its_vocabulary(tmp_path: Path) -> None:
    vocabulary = learn("characters", ["to be or not to be\n"])
    model = small(vocabulary=len(vocabulary)).float()
    save(tmp_path / "model.safetensors", model, vocabulary)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        loaded = load_vocabulary(path, load(path))
        assert loaded.state() == vocabulary.state()


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    vocabulary = learn("characters", ["to be or not to be\n"])
    with pytest.raises(ValueError, match="has 9 tokens, the model has 40"):
        save(tmp_path / "model.safetensors", small(), vocabulary)
    save(tmp_path / "model.safetensors", small().float())
    with pytest.raises(CheckpointError, match=r"vocabulary.json: no such file, so the tokens of model.safetensors"):
        load_vocabulary(tmp_path, load(tmp_path))
    vocabularies.save(tmp_path / "vocabulary.json", vocabulary)
    with pytest.raises(CheckpointError, match=r"not the vocabulary of model\.safetensors: it has 9 tokens"):
        load_vocabulary(tmp_path, load(tmp_path))


def test_overrides_replace_what_was_saved(tmp_path: Path) -> None:
    model = small(eval_stop=deq.Stop(30)).float()
    save(tmp_path / "model.safetensors", model)
    loaded = load(tmp_path, solver=deq.FixedPointIteration(), stop=deq.Stop(5, tol=None), memory=2)
    assert loaded.equilibrium.memory == 2
    with torch.no_grad():
        output = loaded(some_tokens())
    assert output.solution.nfe == 5
    assert len(output.memory) == 2
    with pytest.raises(ValueError, match="no option depth"):
        load(tmp_path, depth=3)


class Own:
    """A solver of one's own."""

    def init(self, z: Tensor, max_steps: int) -> None:
        """Nothing to remember."""

    def step(self, z: Tensor, fz: Tensor, state: None) -> tuple[Tensor, None]:
        return fz, None


def test_what_config_has_no_word_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^solver: .* cannot express <.*Own.*>; it has FixedPointIteration, Anderson"):
        save(tmp_path / "model.safetensors", small(solver=Own()))
    with pytest.raises(
        ValueError, match=r"^adjoint: .* cannot express SHINE\(.*it has ImplicitConfig, Phantom, Unrolled"
    ):
        save(tmp_path / "model.safetensors", small(adjoint=deq.SHINE()))
    with pytest.raises(CheckpointError, match="choose such a name"):
        save(tmp_path / "model.pt", small())


def test_a_released_file_is_recognised_by_its_shapes(tmp_path: Path) -> None:
    path = released_file(tmp_path, released_state())
    model = load(path, memory=20)
    size = model.size
    assert (size.vocabulary, size.cutoffs, size.division, size.embedding) == (1000, (200, 500), 4, 64)
    assert (size.width, size.heads, size.head_width, size.inner) == (64, 4, 16, 128)
    assert size.tied_tables
    assert size.tied_projections == (False, True, True)
    assert size.weight_norm
    assert model.equilibrium.memory == 20
    assert numbers(model) + 64 * (16 + 4) == recorded()["post_lnorm.float64"]["params"]


def test_a_released_file_may_be_of_another_variant(tmp_path: Path) -> None:
    path = released_file(tmp_path, {f"module.{name}": value for name, value in released_state().items()})
    model = load(path, variant="wt103-preln-reg")
    assert model.size.norm == "pre"
    assert model.equilibrium.stop.max_steps == 14
    with pytest.raises(ValueError, match="known are wt103"):
        load(path, variant="wt102")


def test_projections_that_differ_are_not_tied() -> None:
    state = released_state()
    state["crit.out_projs.2.weight"] = state["crit.out_projs.2.weight"] + 1
    model = from_released(state)
    assert model.size.tied_projections == (False, True, False)
    torch.testing.assert_close(model.softmax.projections["2"], state["crit.out_projs.2.weight"])
    with pytest.raises(CheckpointError, match="cannot be tied"):
        from_released(state, tied_projections=(False, True, True))


def test_everything_that_does_not_fit_is_in_one_error(tmp_path: Path) -> None:
    state = released_state()
    del state["func.pos_ff.ff2_net.bias"], state["crit.out_projs.1.weight"]
    state["func.extra.weight"] = torch.zeros(3)
    state["crit.cluster_bias"] = torch.zeros(5)
    path = released_file(tmp_path, state)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    for line in (
        "missing cell.contract.bias (64,)",
        "missing softmax.projections.1 (64, 16)",
        "unexpected func.extra.weight (3,)",
        "misshapen softmax.cluster_bias: expected (2,), got (5,)",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("func.dec_attn.r_w_bias", (64,)),
        ("word_emb.emb_layers.1.weight", (0, 16)),
        ("inject_conv.weight", (192, 63, 1)),
    ],
)
def test_shapes_of_no_network_are_one_error(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    path = released_file(tmp_path, {**released_state(), name: torch.zeros(shape)})
    with pytest.raises(CheckpointError, match="shapes are those of no DEQ-Transformer") as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_other_positions_are_refused() -> None:
    state = released_state()
    state["pos_emb.inv_freq"] = torch.linspace(1, 0, 32)
    with pytest.raises(CheckpointError, match=re.escape("10000^(-2i / width)")):
        from_released(state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nn.Linear(2, 2), "whole model; .* model_state_dict.pth has the tensors"),
        ([1, 2], "got list"),
        ({"epoch": 3}, "expected a dictionary of tensors"),
        ({"weight": torch.zeros(2)}, "unexpected weight"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_converted_file_computes_the_same(tmp_path: Path) -> None:
    model = load(released_file(tmp_path, released_state()))
    save(tmp_path / "own" / "model.safetensors", model)
    again = load(tmp_path / "own")
    tokens = some_tokens(vocabulary=1000)
    with torch.no_grad():
        assert torch.equal(model(tokens).log_probs, again(tokens).log_probs)


@pytest.mark.parametrize("sizes", [{"vocabulary": 200_000_000}, {"inner": 2**62}, {"heads": 10**12}])
def test_a_configuration_of_any_size_is_compared_with_the_file_before_memory_is_taken(
    tmp_path: Path, sizes: dict[str, int]
) -> None:
    save(tmp_path / "model.safetensors", small().float())
    config = json.loads((tmp_path / "config.json").read_text())
    config["architecture"] |= sizes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"model\.safetensors(: no network has| does not fit)"):
        load(tmp_path)
