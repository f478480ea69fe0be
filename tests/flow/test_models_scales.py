"""Coarse to fine: which copies of a pair a network sees, and what each starts from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.flow.small import equilibrium_model, store
from torch import Tensor
from torch.nn import functional as F

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.photographs import VALIDATION, load_all
from deq_flow.config import Scales
from deq_flow.models import DEQFlow, build
from deq_flow.models import scales as coarse
from deq_flow.models.refinement import grey, refined
from deq_flow.models.scales import coarse_to_fine, rescaled, resized
from deq_flow.networks import load
from deq_flow.params import Model, UnrolledModel


def network(**choices: object) -> DEQFlow:
    torch.manual_seed(0)
    model = build("deq-flow-mini", **choices).eval()
    assert isinstance(model, DEQFlow)
    return model


def pair(height: int = 64, width: int = 96) -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, 1, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255
    return first, second


def test_copies_are_halved_until_they_are_small_enough() -> None:
    assert Scales(coarsest=160).sizes(1080, 1920) == [(68, 120), (135, 240), (270, 480), (540, 960), (1080, 1920)]
    assert Scales(coarsest=160).sizes(100, 150) == [(100, 150)]
    assert Scales(coarsest=32).sizes(40, 3000)[0] == (20, 1500)  # never below the least that a network takes


def test_small_frames_are_enlarged_and_long_ones_are_not() -> None:
    scales = Scales(coarsest=160, finest=2.0, longest=300)
    assert scales.sizes(64, 96) == [(64, 96), (128, 192)]
    assert scales.sizes(100, 200) == [(75, 150), (150, 300)]
    assert scales.sizes(200, 400) == [(50, 100), (100, 200), (200, 400)]


def test_one_scale_of_the_frames_own_size_is_the_network_alone() -> None:
    model = network()
    with torch.no_grad():
        plain, scaled = model(*pair()), coarse_to_fine(model, *pair(), scales=Scales())
    assert torch.equal(plain.flow, scaled.flow)
    assert scaled.coarser == ()


def test_each_scale_is_relative_to_the_flow_of_the_one_before() -> None:
    model = network()
    scales = Scales(coarsest=48)
    with torch.no_grad():
        scaled = coarse_to_fine(model, *pair(), scales=scales)
        halves = [F.avg_pool2d(image, 2) for image in pair()]
        coarse = model(*halves)
        fine = model(*pair(), base=2 * F.interpolate(coarse.flow, (64, 96), mode="bilinear", align_corners=False))
    torch.testing.assert_close(scaled.flow, fine.flow)
    torch.testing.assert_close(scaled.states, (coarse.state, fine.state))
    assert len(scaled.coarser) == 1


def test_every_scale_starts_from_its_own_state() -> None:
    model = network(eval_stop=None)
    with torch.no_grad():
        first = coarse_to_fine(model, *pair(), scales=Scales(coarsest=48))
        again = coarse_to_fine(model, *pair(), first.states, scales=Scales(coarsest=48))
        other = coarse_to_fine(model, *pair(48, 48), first.states, scales=Scales(coarsest=48))
    assert not torch.equal(first.flow, again.flow)
    assert len(other.states) == 1  # of frames that have fewer scales


def test_a_flow_keeps_its_meaning_at_another_size() -> None:
    flow = torch.tensor([3.0, -2.0]).reshape(1, 2, 1, 1).expand(1, 2, 20, 30)
    torch.testing.assert_close(rescaled(flow, (40, 90))[0, :, 5, 5], torch.tensor([9.0, -4.0]))
    assert resized(torch.full((1, 3, 20, 30), 7, dtype=torch.uint8), (10, 15)).unique().tolist() == [7.0]


def test_anything_but_scales_is_refused() -> None:
    with pytest.raises(TypeError, match=r"scales must be a deq_flow\.Scales .*, or None, got 160"):
        build("raft-mini", scales=160)


@pytest.mark.parametrize("choice", [{"coarsest": 16}, {"finest": 0.5}, {"longest": 0}, {"refine": -1}])
def test_scales_that_mean_nothing_are_refused(choice: dict) -> None:
    with pytest.raises(ValueError, match="scales need"):
        Scales(**choice)


@pytest.mark.parametrize(
    "model",
    [
        equilibrium_model(scales=Scales(coarsest=64)),
        UnrolledModel(name="raft-mini", steps=2, scales=Scales(coarsest=64)),
    ],
)
def test_scales_are_stored_with_the_weights_that_are_good_for_them(model: Model, tmp_path: Path) -> None:
    store(tmp_path, model)
    assert load(tmp_path).scales == Scales(coarsest=64)
    assert load(tmp_path, scales=None).scales is None
    assert load(tmp_path, scales=Scales(finest=2)).scales == Scales(finest=2)


def test_a_stored_scale_that_means_nothing_is_named_with_its_file(tmp_path: Path) -> None:
    beside = store(tmp_path, equilibrium_model(scales=Scales())) / "config.json"
    whole = beside.read_text()
    beside.write_text(whole.replace('"coarsest": 160', '"coarsest": 16'))
    with pytest.raises(ConfigError, match=r"config\.json: .*scales: .*coarsest of at least 32.*16"):
        load(tmp_path)


def test_refinement_brings_a_flow_to_where_the_frames_agree() -> None:
    (photograph,) = load_all(VALIDATION[:1])
    first = torch.from_numpy(photograph[100:164, 100:196].transpose(2, 0, 1).copy())[None].float()
    second = torch.from_numpy(photograph[100:164, 98:194].transpose(2, 0, 1).copy())[None].float()  # moved by 2 px
    generator = torch.Generator().manual_seed(0)
    noise = F.interpolate(torch.randn(1, 2, 4, 6, generator=generator), (64, 96), mode="bilinear")
    for image, true in ((first, torch.zeros(1, 2, 64, 96)), (second, torch.tensor([2.0, 0.0])[:, None, None])):
        near = true + 0.3 * noise
        found = refined(first, image, near, 20)
        assert (found - true).abs().mean() < 0.5 * (near - true).abs().mean()


def test_a_value_beyond_those_of_images_is_the_nearest_of_them_and_no_other() -> None:
    """Interpolation overshoots: 256 is as good as white, and not black."""
    shades = torch.tensor([-3.0, 0.0, 127.0, 255.0, 256.0, 300.0]).expand(1, 3, 2, -1)
    assert grey(shades)[0][0].tolist() == [0, 0, 127, 255, 255, 255]


def test_what_is_not_finite_is_not_refined() -> None:
    image = torch.rand(2, 3, 32, 32) * 255
    flow = torch.zeros(2, 2, 32, 32)
    flow[0, 0, 3, 3] = torch.nan
    found = refined(image, image, flow, 2)
    assert found[0].isnan().sum() == 1
    assert found[1].isfinite().all()


def test_every_scale_is_refined_before_it_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noting(image1: Tensor, image2: Tensor, flow: Tensor, steps: int) -> Tensor:
        seen.append((*image1.shape[2:], steps))
        return flow + 1

    monkeypatch.setattr(coarse, "refined", noting)
    choice = Scales(coarsest=96, finest=2.0, refine=3)
    with torch.no_grad():
        plain = coarse_to_fine(network(), *pair(), scales=replace(choice, refine=0))
        assert seen == []
        found = coarse_to_fine(network(), *pair(), scales=choice)
    assert seen == [(64, 96, 3), (128, 192, 3), (64, 96, 3)]  # each copy, and the frames as they came
    assert not torch.equal(plain.states[1][1], found.states[1][1])  # it is relative to another base
    torch.testing.assert_close(plain.states[0], found.states[0])
