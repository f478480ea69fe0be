"""Weights, inputs and recorded numbers for comparisons with the released MDEQ.

The numbers in tests/golden/vision were recorded by running the released code on a CPU (torch 2.13, float64). Weights
and inputs are drawn from the names of what they fill, so none are stored. Recordings of further variants are compared
where there is a folder `shared/parity/vision` beside the repository.
"""

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import deq_core as deq
from deq_vision.data.classes import CITYSCAPES
from deq_vision.loss import classification_loss, segmentation_loss
from deq_vision.models.compat.convert import from_released, renamed
from deq_vision.models.mdeq import MDEQ

GOLDEN = Path(__file__).parents[1] / "golden" / "vision"
FURTHER = Path(__file__).parents[3] / "shared" / "parity" / "vision"


@dataclass(frozen=True)
class Recipe:
    """How a variant was run.

    Attributes:
        shape: of the images.
        gain, offset: factors of the weights and biases of every branch's last norm and of the fusing norms, which
            make f contract.
        plain, broyden: relative residual after 18 steps, to two digits.
    """

    shape: tuple[int, int, int, int]
    gain: float
    offset: float
    plain: float
    broyden: float


RECIPES = {
    "cifar_TINY": Recipe((2, 3, 32, 32), 0.3, 20.0, plain=1.0e-2, broyden=1.3e-4),
    "cifar_LARGE": Recipe((1, 3, 32, 32), 0.4, 10.0, plain=4.9e-3, broyden=6.7e-4),
    "imagenet_SMALL": Recipe((1, 3, 64, 64), 0.5, 10.0, plain=2.4e-2, broyden=5.4e-3),
    "cityscapes_SMALL": Recipe((1, 3, 64, 128), 0.5, 10.0, plain=2.2e-2, broyden=9.3e-3),
}


def _unpacked(name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))


@cache
def keys() -> dict[str, Any]:
    """Parameter names, shapes and counts of the 11 released layouts."""
    return _unpacked("keys")


@cache
def recorded(variant: str) -> dict[str, Any]:
    """The recorded numbers of a variant; "converged" among them where they were solved to rounding."""
    if (GOLDEN / f"{variant}.json.gz").exists():
        return _unpacked(variant)
    values = json.loads((FURTHER / f"{variant}.json").read_text())
    converged = json.loads((FURTHER / "converged.json").read_text())
    found = {"converged": converged[variant]} if variant in converged else {}
    return {**values["float64"], **found}


VARIANTS = [name for name in RECIPES if (GOLDEN / f"{name}.json.gz").exists() or (FURTHER / f"{name}.json").exists()]
"""Those whose numbers are at hand."""
CONVERGED = [name for name in VARIANTS if "converged" in recorded(name)]
"""Those of them that were solved to rounding."""


def normal(name: str, shape: tuple[int, ...] | list[int]) -> Tensor:
    """Standard normal numbers, seeded by the CRC-32 of `name` and drawn in float32, as float64."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(tuple(shape), generator=generator).double()


def released_state(variant: str, *, contractive: bool = True) -> dict[str, Tensor]:
    """A float64 state dict under the release's names, filled as the recordings were."""
    state = {name: _filled(name, shape) for name, shape in keys()[variant]["keys"].items()}
    if contractive:
        recipe = RECIPES[variant]
        for name, value in state.items():
            if ".gn3." in name or ("fuse_layers" in name and "gnorm" in name and "post_fuse" not in name):
                value.mul_(recipe.gain if name.endswith("weight") else recipe.offset)
    return state


def network(variant: str, *, contractive: bool = True, **choices: Any) -> MDEQ:
    """The filled model in float64, without dropout, in evaluation mode; choices are fields of `Equilibrium`."""
    model = from_released(released_state(variant, contractive=contractive), variant.lower().replace("_", "-"))
    model.equilibrium = replace(model.equilibrium, **choices)
    for module in model.modules():
        if isinstance(module, deq.nn.VariationalDropout):
            module.p = 0.0
    return model


def images(variant: str) -> Tensor:
    """The recorded runs' images."""
    return normal(f"{variant}.x", RECIPES[variant].shape)


def branches(variant: str, model: MDEQ) -> tuple[Tensor, ...]:
    """The state that f was applied to once."""
    with torch.no_grad():
        zeros = model.start(model.inject(images(variant)))
    return tuple(normal(f"{variant}.z.{i}", zero.shape) for i, zero in enumerate(zeros))


def probes(variant: str, state: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """The two random vectors of the Jacobian penalty."""
    sizes = [branch[0].numel() for branch in state]
    flat = [normal(f"{variant}.jac_probe.{k}", (len(state[0]), sum(sizes), 1)) for k in range(2)]
    return [
        tuple(part.reshape(branch.shape) for part, branch in zip(vector.split(sizes, dim=1), state, strict=True))
        for vector in flat
    ]


def loss(variant: str, logits: Tensor) -> Tensor:
    """The recorded runs' loss."""
    batch, classes = logits.shape[:2]
    if logits.ndim == 2:
        return classification_loss(logits, torch.tensor([(7 * i + 3) % classes for i in range(batch)]))
    height, width = images(variant).shape[2:]
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = (row // 8 + column // 8) % classes
    labels[:, ::16] = 255
    weights = torch.tensor(CITYSCAPES.weights)
    return segmentation_loss(logits, labels.expand(batch, -1, -1), weights=weights)


def assert_summary(tensor: Tensor, expected: Mapping[str, Any], *, relative: float) -> None:
    """Shape, mean, deviation, maximum, first and last entries agree, to `relative` of the maximum."""
    tolerance = relative * expected["absmax"]
    flat = tensor.detach().flatten()
    assert list(tensor.shape) == expected["shape"]
    found = torch.stack([flat.mean(), flat.std(unbiased=False), flat.abs().max()])
    wanted = flat.new_tensor([expected[name] for name in ("mean", "std", "absmax")])
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)
    first, last = flat.new_tensor(expected["head"]), flat.new_tensor(expected["tail"])
    torch.testing.assert_close(flat[: len(first)], first, rtol=0, atol=tolerance)
    torch.testing.assert_close(flat[-len(last) :], last, rtol=0, atol=tolerance)


def assert_gradients(variant: str, model: MDEQ, expected: Mapping[str, Any], *, relative: float) -> None:
    """Every parameter's gradient has the recorded norm and product with a random tensor, to `relative` of all."""
    total = math.sqrt(sum(gradient["norm"] ** 2 for gradient in expected.values()))
    theirs = {name: next(iter(renamed({name: torch.empty(())}))) for name in expected}
    parameters = dict(model.named_parameters())
    assert set(theirs.values()) == set(parameters)
    for name, ours in theirs.items():
        gradient = parameters[ours].grad
        assert gradient is not None, name
        difference = gradient.norm().item() - expected[name]["norm"]
        assert abs(difference) <= relative * total, name
        product = (gradient * normal(f"probe.{name}", gradient.shape)).sum().item()
        assert abs(product - expected[name]["dot"]) <= 10 * relative * total, name


def _filled(name: str, shape: list[int]) -> Tensor:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.tensor(0)
    numbers = normal(name, shape).float()
    if leaf == "running_var":
        numbers = 1 + 0.1 * numbers.abs()
    elif leaf == "running_mean":
        numbers = 0.1 * numbers
    elif leaf == "weight_g":
        numbers = 0.5 + 0.1 * numbers.abs()
    elif len(shape) == 1 and leaf == "weight":
        numbers = 1 + 0.1 * numbers
    elif len(shape) <= 1:
        numbers = 0.05 * numbers
    else:
        numbers = numbers * 1.0 / math.sqrt(max(1, math.prod(shape[1:])))
    return numbers.double()
