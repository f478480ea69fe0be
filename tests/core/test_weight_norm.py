"""Weight normalisation is torch's own, on every affine layer."""

import pytest
import torch
from torch import nn

import deq_core as deq


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose2d(4, 5, 3)
        self.head = nn.Sequential(nn.Linear(5, 2), nn.Tanh(), nn.Linear(2, 2, bias=False))

    def forward(self, x):
        return self.head(self.up(self.norm(self.conv(x))).mean((2, 3)))


def test_the_function_does_not_change():
    block, x = Block(), torch.randn(2, 3, 6, 6)
    before = block(x)
    assert deq.nn.weight_norm_(block) is block
    torch.testing.assert_close(block(x), before)


def test_one_length_per_output_channel():
    block = deq.nn.weight_norm_(Block())
    lengths = {key: tuple(value.shape) for key, value in block.state_dict().items() if key.endswith("original0")}
    assert lengths == {
        "conv.parametrizations.weight.original0": (4, 1, 1, 1),
        "up.parametrizations.weight.original0": (1, 5, 1, 1),
        "head.0.parametrizations.weight.original0": (2, 1),
        "head.2.parametrizations.weight.original0": (2, 1),
    }


def test_skipped_layers_and_subtrees_are_left_alone():
    block = deq.nn.weight_norm_(Block(), skip=("conv", "head"))
    assert [key for key in block.state_dict() if key.endswith("original0")] == ["up.parametrizations.weight.original0"]


def test_keys_of_the_older_weight_norm_load():
    source, target = deq.nn.weight_norm_(Block()), deq.nn.weight_norm_(Block())
    spelling = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    older = {}
    for key, value in source.state_dict().items():
        for new, old in spelling.items():
            key = key.replace(new, old)
        older[key] = value
    assert "conv.weight_g" in older
    target.load_state_dict(older)
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"skip names no module: \['haed'\]"):
        deq.nn.weight_norm_(Block(), skip=("haed",))


def test_twice_is_refused():
    with pytest.raises(ValueError, match="'conv' is parametrised already"):
        deq.nn.weight_norm_(deq.nn.weight_norm_(Block()))


def test_a_module_without_affine_layers_is_refused():
    with pytest.raises(ValueError, match="ReLU has no linear or convolution layer"):
        deq.nn.weight_norm_(nn.ReLU())


def test_a_single_layer_is_normalised():
    layer = deq.nn.weight_norm_(nn.Linear(3, 2))
    assert "parametrizations.weight.original0" in layer.state_dict()


def test_a_length_that_is_set_is_not_learned():
    block = deq.nn.weight_norm_(Block(), length=0.5)
    assert not [key for key in block.state_dict() if key.endswith(("original0", "original1"))]
    torch.testing.assert_close(block.conv.weight.flatten(1).norm(dim=1), torch.full((4,), 0.5))
    torch.testing.assert_close(block.up.weight.transpose(0, 1).flatten(1).norm(dim=1), torch.full((5,), 0.5))
    assert "length=0.5, clip=None" in repr(block)


def test_a_clip_shortens_and_never_lengthens():
    block = deq.nn.weight_norm_(Block(), clip=1.0)
    before = block.conv.weight.detach().clone()
    lengths = dict(block.named_parameters())["conv.parametrizations.weight.original0"]
    with torch.no_grad():
        lengths.mul_(torch.tensor([0.5, 2.0, 1.0, 0.1])[:, None, None, None])
    expected = before * torch.tensor([0.5, 1.0, 1.0, 0.1])[:, None, None, None]
    torch.testing.assert_close(block.conv.weight, expected)
    block.conv.weight.sum().backward()
    assert lengths.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"length": 0.5}, {"clip": 1.0}])
def test_weights_of_half_precision_stay_so(options, dtype):
    layer = deq.nn.weight_norm_(nn.Linear(6, 4, dtype=dtype), **options)
    lengths = layer.weight.float().norm(dim=1)
    layer(torch.ones(2, 6, dtype=dtype)).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in layer.parameters())
    if "length" in options:
        torch.testing.assert_close(lengths, torch.full((4,), 0.5), rtol=2e-2, atol=0)


@pytest.mark.parametrize("options", [{"length": 0.0}, {"clip": -1.0}])
def test_impossible_lengths_are_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be None or above 0"):
        deq.nn.weight_norm_(Block(), **options)
