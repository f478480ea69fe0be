"""Images as equilibria: the maps of (Implicit)², the delta rule in training and after, and what a stage leaves."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.flow.interrupted import Interrupt, Interrupted
from tests.jobs import done, run
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.delta import Rule
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.data.arrays import read_arrays
from deq_core.experiment.study import plotting
from deq_core.experiment.tables import Row, numbers, read_rows
from deq_core.experiment.tracking.run import ignore
from deq_flow.reports import panels
from deq_flow.studies.delta.field import DEQField, Representation, coordinates, psnr
from deq_flow.studies.delta.images import IMAGES, Images, Picture, Represented, picture, study, train, work_so_far

LAYER = LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=6), adjoint=deq.Phantom(steps=1))
SIREN = Representation(kind="siren", width=24, scale=12.0, layer=LAYER)
FOURIER = replace(SIREN, kind="fourier")
CONFIG = Images(
    picture=Picture(size=12),
    steps=30,
    optim=OptimConfig(name="adam", lr=5e-3),
    evaluations=8,
    rules={"seen": Rule(thresholds=(0.03, 0.3))},
    probes=50,
    every=Every(checkpoint=30),
)


def field(representation: Representation, channels: int = 3) -> DEQField:
    torch.manual_seed(0)
    return DEQField(representation, channels).double().eval()


def formula(network: DEQField, x: Tensor, z: Tensor) -> Tensor:
    """One evaluation, point by point, from the paper's equations."""
    injection = network.injection
    weights = injection.weight.chunk(network.inputs), injection.bias.chunk(network.inputs)
    u = [x @ weight.T + bias for weight, bias in zip(*weights, strict=True)]
    layers = [(layer.weight, layer.bias) for layer in network.cell.layers if isinstance(layer, nn.Linear)]
    if network.kind == "fourier":
        z = z + torch.sin(u[0])
        for (weight, bias), inner in zip(layers, u[1:], strict=True):
            z = torch.sin(inner) * (z @ weight.T + bias)
        return z
    z = z + torch.sin(u[0])
    for (weight, bias), inner in zip(layers, u[1:], strict=True):
        z = torch.sin(z @ weight.T + bias + inner)
    return z


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("representation", [SIREN, FOURIER], ids=lambda value: value.kind)
def test_the_map_is_that_of_the_paper(representation: Representation, layers: int) -> None:
    network = field(replace(representation, layers=layers))
    x, z = coordinates(3, 4).double(), torch.randn(12, 24, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network.cell(z, *network.inject(x)), formula(network, x, z))


@pytest.mark.parametrize("representation", [SIREN, FOURIER], ids=lambda value: value.kind)
def test_the_solve_reaches_a_fixed_point_whatever_its_start(representation: Representation) -> None:
    tight = LayerConfig(solver=deq.Anderson(), stop=StopConfig(max_steps=60, tol=1e-12), adjoint=deq.Phantom())
    network = field(replace(representation, layer=tight))
    x = coordinates(4, 4).double()
    with torch.no_grad():
        cold = network(x)
        other = network(x, torch.randn(16, 24, dtype=torch.float64))
        again = network.cell(cold.solution.value, *network.inject(x))
    torch.testing.assert_close(again, cold.solution.value, rtol=0, atol=1e-9)
    torch.testing.assert_close(other.values, cold.values, rtol=0, atol=1e-9)


def test_the_highest_frequencies_grow_with_the_scale() -> None:
    for scale in (4.0, 64.0):
        injection = DEQField(replace(SIREN, scale=scale, width=512, bound=None), 1).injection
        # nn.Linear draws up to 1/√2 for two inputs; two injections share the scale
        assert float(injection.weight.detach().abs().max()) == pytest.approx(scale / 2, rel=0.01)
        assert float(injection.bias.detach().abs().max()) == pytest.approx(math.pi, rel=0.01)


@torch.no_grad()
def norm(network: DEQField) -> float:
    (layer,) = (layer for layer in network.cell.layers if isinstance(layer, nn.Linear))
    return float(torch.linalg.matrix_norm(layer.weight, 2))


def test_hidden_weights_are_bounded() -> None:
    network = DEQField(SIREN, 3)
    network(coordinates(4, 4))
    assert norm(network) == pytest.approx(0.97, rel=0.02)
    assert norm(DEQField(replace(SIREN, bound=None), 3)) > 1


def test_coordinates_run_row_by_row_from_corner_to_corner() -> None:
    x = coordinates(2, 3)
    assert x.tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 1], [0, 1], [1, 1]]


def test_psnr_is_that_of_images_from_zero_to_one() -> None:
    target = torch.rand(50, 3) * 2 - 1
    assert psnr(target + 0.2, target) > 20  # values beyond white are cut off, so they come nearer
    assert psnr(0.8 * target + 0.02, 0.8 * target) == pytest.approx(40)  # an error of 0.01 in intensity
    assert psnr(torch.full((4, 1), 7.0), torch.ones(4, 1)) == math.inf


def test_a_picture_is_the_centres_square(tmp_path: Path) -> None:
    small = picture(Picture(file="skimage/data/coffee.png", size=20))
    assert small.shape == (20, 20, 3)
    assert small.min() >= -1
    assert small.max() <= 1
    grey = picture(Picture(file="skimage/data/camera.png", size=None, channels=1))
    assert grey.shape == (512, 512, 1)
    colours = picture(Picture(file="skimage/data/coffee.png", size=20, channels=1))
    torch.testing.assert_close(colours[..., 0], small.mean(dim=2))


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_training_at_threshold_zero_is_dense_training(threshold: float | None, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=3)
    dense, _ = train(config, SIREN, seed=0, scratch=tmp_path / "a", log=ignore)
    other, history = train(config, replace(SIREN, threshold=threshold), seed=0, scratch=tmp_path / "b", log=ignore)
    for left, right in zip(dense.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-5)
    assert all(row["macs_dense"] == 144 * 24 * 24 * 6 for row in history)
    assert all(0.5 * row["macs_dense"] < row["macs_sparse"] <= row["macs_dense"] for row in history)
    assert (history[0]["macs_sparse"] == history[0]["macs_dense"]) or threshold is not None


def test_the_delta_rule_saves_work_in_training_and_the_image_is_still_learned(tmp_path: Path) -> None:
    found, history = train(CONFIG, replace(SIREN, threshold=0.03), seed=0, scratch=tmp_path, log=ignore)
    points, width, evaluations = 144, 24, 6
    assert history[0]["macs_dense"] == points * width * width * evaluations
    assert 0.2 * history[-1]["macs_dense"] < history[-1]["macs_sparse"] < 0.8 * history[-1]["macs_dense"]
    assert history[-1]["psnr"] > history[0]["psnr"] + 3
    tables, images = study(found, CONFIG)
    assert numbers(exact(tables["sweep"]), "psnr")[-1] > history[0]["psnr"] + 3
    assert list(images) == ["target", "dense", "seen 0.03", "seen 0.3"]


def exact(sweep: Sequence[Row]) -> list[Row]:
    """The rows at threshold 0 of the test's pixels, a row a step."""
    return [row for row in sweep if (row["threshold"], row["split"]) == (0, "test")]


def test_threshold_zero_is_the_dense_solve_and_larger_ones_cost_less(tmp_path: Path) -> None:
    found, _ = train(replace(CONFIG, steps=5), FOURIER, seed=0, scratch=tmp_path, log=ignore)
    tables, images = study(found, CONFIG)
    tested = torch.arange(12)[:, None] + torch.arange(12) & 1 == 0
    dense = psnr(images["dense"][tested], images["target"][tested])
    rows = exact(tables["sweep"])
    assert rows[-1]["psnr"] == pytest.approx(dense, abs=1e-3)
    assert rows[-1]["macs_dense"] == 144 * 24 * 24 * 8
    assert numbers(rows, "macs_sparse") == sorted(numbers(rows, "macs_sparse"))  # of one step more each
    last = [row for row in tables["sweep"] if (row["max_steps"], row["split"]) == (8, "test")]
    assert numbers(last, "threshold") == [0, 0.03, 0.3]
    assert numbers(last, "macs_saved") == sorted(numbers(last, "macs_saved"))


def test_a_reused_state_starts_the_next_update(tmp_path: Path) -> None:
    one = LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=1), adjoint=deq.Phantom(steps=1))
    residuals = {}
    for reuse in (False, True):
        representation = replace(SIREN, layer=one, reuse=reuse)
        scratch = tmp_path / str(reuse)
        found, history = train(replace(CONFIG, steps=8), representation, seed=0, scratch=scratch, log=ignore)
        residuals[reuse] = history[-1]["residual"]
        assert "state" not in found.state_dict()
    assert residuals[True] < 0.3 * residuals[False]


def test_the_work_of_a_training_is_that_of_all_updates_however_few_are_logged(tmp_path: Path) -> None:
    work, saved = [], []
    for log in (1, 3):
        settings = replace(CONFIG, steps=4, every=Every(log=log)), replace(SIREN, threshold=0.01)
        metrics, job = done(IMAGES, settings, case=Represented("siren", 1), out=tmp_path / str(log))
        work.append(work_so_far(job.tables["history"], "macs_sparse").tolist())
        saved.append(metrics["train_macs_saved"])
    assert work[1] == pytest.approx(work[0][2:]), "after updates 3 and 4"
    assert saved[1] == pytest.approx(saved[0])


def test_units_that_never_settled_are_not_drawn_as_settled() -> None:
    rows: list[Row] = [
        {"criterion": "lasting", "seed": 0, "step": step, "units": units}
        for step, units in enumerate((12.0, 5.0, 3.0), start=1)
    ]
    _, (axes,) = plotting.figure()
    panels.units_settled(axes, rows)
    assert [torch.as_tensor(line.get_ydata()).tolist() for line in axes.get_lines()] == [[12, 5]]


@pytest.mark.parametrize("reuse", [False, True])
def test_a_fit_leaves_its_tables_and_resumes_to_the_same_bytes(reuse: bool, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=4, every=Every(checkpoint=2))
    representation = replace(SIREN, threshold=0.01, reuse=reuse)
    case, settings = Represented("siren", 1), (config, representation)
    metrics = run(IMAGES, case, settings, tmp_path / "a", scratch=tmp_path / "s1")
    with pytest.raises(Interrupted):
        run(IMAGES, case, settings, tmp_path / "b", scratch=tmp_path / "s2", log=Interrupt(3))
    run(IMAGES, case, settings, tmp_path / "b", scratch=tmp_path / "s2")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert json.loads((tmp_path / "a" / "metrics.json").read_text()) == metrics
    assert 0 < metrics["train_macs_saved"] < 1
    assert numbers(exact(read_rows(tmp_path / "a" / "sweep.csv")), "psnr")[-1] == metrics["psnr"]
    assert read_arrays(tmp_path / "a" / "images.npz")["dense"].shape == (12, 12, 3)
    again = DEQField(representation, 3)
    checkpoint.load_into(again, checkpoint.load_tensors(tmp_path / "a" / "model.safetensors"))
    tables, _ = study(again.eval(), config)
    assert numbers(exact(tables["sweep"]), "psnr")[-1] == metrics["psnr"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_a_device_that_is_not_there_is_an_error_before_the_picture_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device: cuda is not available"):
        train(replace(CONFIG, device="cuda"), SIREN, seed=0, scratch=tmp_path, log=ignore)
