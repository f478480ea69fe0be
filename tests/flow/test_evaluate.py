"""What is measured of a pair, and that one solve gives all of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.flow.small import equilibrium, unrolled, write_kitti_set, write_sintel
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import StopConfig
from deq_flow.data.batches import FlowBatch
from deq_flow.evaluation.evaluate import Prediction, evaluate, labelled_sets, measured, summary
from deq_flow.evaluation.sets import EMBEDDED, SETS, as_published, named, sequences_of, titles
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference
from deq_flow.models import RAFT, DEQFlow
from deq_flow.models.padding import Padding
from deq_flow.studies.equilibrium import encode
from deq_flow.studies.table import Evaluate, network_method

CONFIG = Evaluate(stop=StopConfig(max_steps=4), unrolled_steps=3, sweep=6, batch_size=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return write_kitti_set(write_sintel(folder))


def test_a_name_stands_for_its_set_or_for_all_parts_of_it() -> None:
    assert named("sintel") == ("sintel_clean", "sintel_final")
    assert named("sintel_final") == ("sintel_final",)
    assert named("things") == ("things_clean", "things_final")
    assert named("kitti") == ("kitti",)
    with pytest.raises(ConfigError, match=r"no set is named 'sintle'; there are chairs, .*sintel, sintel_clean"):
        named("sintle")


def test_only_sets_of_consecutive_frames_are_videos(root: Path) -> None:
    assert list(sequences_of("sintel_clean", root).sequences()) == ["alley_1", "market_2"]
    with pytest.raises(ConfigError, match="the pairs of kitti are not consecutive frames"):
        sequences_of("kitti", root)
    with pytest.raises(ConfigError, match="no set is named 'sintel'"):
        sequences_of("sintel", root)


def test_the_embedded_sets_differ_from_the_published_ones_by_title_alone() -> None:
    for name, embedded in EMBEDDED.items():
        assert replace(embedded, title="") == replace(SETS[name], title="")


def test_parts_of_a_sample_add_up_to_it(root: Path) -> None:
    for name, divisions in (
        ("sintel_clean", (("s0_10", "s10_40"), ("occluded", "unoccluded"))),
        ("kitti", (("occluded", "unoccluded"),)),
    ):
        sample = SETS[name].read(root)[0]
        values = measured(sample.flow + torch.randn_like(sample.flow), sample)
        assert "s40.epe" not in values, "a part without pixels has no value"
        for parts in divisions:
            counts = [values[f"{part}.pixels"] for part in parts]
            assert min(counts) > 0
            assert sum(counts) == values["pixels"]
            for key in ("epe", "f1_all"):
                total = sum(count * values[f"{part}.{key}"] for count, part in zip(counts, parts, strict=True))
                assert total / values["pixels"] == pytest.approx(values[key], rel=1e-6)


def test_pixels_that_sintel_marks_as_invalid_count_by_the_published_protocol_and_apart_not(root: Path) -> None:
    sample = SETS["sintel_clean"].read(root)[0]
    assert sample.invalid is not None
    wrong = torch.where(sample.invalid, sample.flow + 100, sample.flow)
    values = measured(wrong, sample)
    assert values["epe"] > 10
    assert values["not_invalid.epe"] == 0


def test_a_part_is_joined_over_the_samples_that_have_it(root: Path) -> None:
    first, second = (SETS["kitti"].read(root)[index] for index in (0, 1))
    rows = [{"set": "kitti", "name": "", **measured(sample.flow + 1, sample)} for sample in (first, second)]
    joined = summary(rows)["kitti"]
    assert joined["unoccluded.epe"] == pytest.approx(2**0.5, rel=1e-6)
    for key in [key for key in rows[1] if key.startswith("occluded.")]:
        del rows[1][key]
    assert summary(rows)["kitti"]["occluded.f1_all"] == rows[0]["occluded.f1_all"]


def last_iterate() -> DEQFlow:
    """A DEQ-Flow that returns its last iterate, whatever the residual, as a release did."""
    network = equilibrium()
    network.equilibrium = replace(network.equilibrium, returned="v2", solver=deq.FixedPointIteration())
    return network


@pytest.mark.parametrize(
    "network",
    [equilibrium(), unrolled(), last_iterate()],
    ids=["deq", "raft", "last"],
)
@pytest.mark.parametrize("sweep", [6, 2])
def test_prediction_and_trajectory_come_from_one_solve_and_are_those_of_separate_ones(
    network: DEQFlow | RAFT, sweep: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    whole = type(network).encode

    def counted(self, image1: Tensor, image2: Tensor, base: Tensor | None = None):
        encoded.append(len(image1))
        return whole(self, image1, image2, base)

    monkeypatch.setattr(type(network), "encode", counted)
    pairs = SETS["sintel_clean"].read(root)
    batch = FlowBatch.collate([pairs[0], pairs[1]])
    found = network_method(network, replace(CONFIG, sweep=sweep))(batch)
    assert encoded == [2]
    steps = 4 if isinstance(network, DEQFlow) else 3
    with torch.no_grad():
        for count, flow in ((steps, found.flow), *enumerate(found.trajectory, start=1)):
            alone = network(batch.image1, batch.image2, steps=count, record=())
            assert torch.equal(flow, alone.flow)
            if found.residuals is not None and count <= sweep:
                assert alone.solution is not None
                assert torch.equal(found.residuals[count - 1], alone.solution.residual)
    assert len(found.trajectory) == sweep
    assert (found.residuals is None) == isinstance(network, RAFT)
    assert found.residuals is None or found.residuals.shape == (sweep, 2)


def test_an_estimator_leaves_its_network_as_it_is(root: Path) -> None:
    network = equilibrium()
    before = network.equilibrium
    choice = Inference(solver=deq.Anderson(window=3), stop=StopConfig(max_steps=2))
    estimate = Estimator(network, choice)
    sample = SETS["sintel_clean"].read(root)[0]
    solution = estimate(sample.image1[None], sample.image2[None]).solution
    assert solution is not None
    assert solution.nfe == 2
    assert network.equilibrium is before
    assert estimate.network.fnet.conv1.weight is network.fnet.conv1.weight


def test_an_estimator_refuses_a_network_in_training() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        Estimator(equilibrium().train())


def test_frames_of_kitti_are_padded_below(root: Path) -> None:
    network, sample = equilibrium(), SETS["kitti"].read(root)[0]
    image1, image2 = sample.image1[None].float(), sample.image2[None].float()
    padding = Padding(30, 45, 4, "bottom")
    with torch.no_grad():
        expected = padding.crop(network(padding.pad(image1), padding.pad(image2)).flow)
    found = Estimator(network, padding=SETS["kitti"].padding)(image1, image2).flow
    assert found.shape == (1, 2, 30, 45)
    assert torch.equal(found, expected)
    assert not torch.equal(found, Estimator(network)(image1, image2).flow)
    assert encode(network, [sample], of="kitti")[1].sides == padding.sides


def test_lower_precision_changes_the_flow_a_little_and_returns_float32(root: Path) -> None:
    sample = SETS["sintel_clean"].read(root)[0]
    images = sample.image1[None], sample.image2[None]
    full = Estimator(equilibrium(), Inference(stop=StopConfig(max_steps=2)))(*images).flow
    rough = Estimator(equilibrium(), Inference(stop=StopConfig(max_steps=2), precision="bfloat16"))(*images).flow
    assert rough.dtype == torch.float32
    assert 0 < float((full - rough).norm() / full.norm()) < 0.1


def test_unrolled_networks_take_the_published_number_of_iterations_unless_told() -> None:
    assert as_published(Inference(), "sintel_final").steps == 32
    assert as_published(Inference(), "kitti").steps == 24
    assert as_published(Inference(steps=7), "kitti").steps == 7


def test_what_a_solve_took_is_a_column_and_its_mean_in_the_summary(root: Path) -> None:
    def method(batch: FlowBatch) -> Prediction:
        return Prediction(batch.flow, solved={"steps": torch.arange(len(batch.flow))})

    found = evaluate(method, labelled_sets(root, ["sintel_clean"]), batch_size=5)
    assert [row["steps"] for row in found.samples] == [0, 1, 2, 3, 4]
    assert summary(found.samples)["sintel_clean"]["steps"] == 2.0


def test_sets_measured_with_the_motorcycle_are_titled_as_the_embedded_ones() -> None:
    assert list(titles(["kitti", "sintel_clean"]).items()) == [
        ("sintel_clean", "Sintel clean"),
        ("kitti", "KITTI 2015"),
    ]
    assert titles(["motorcycle", "kitti"]) == {"kitti": "KITTI-mini", "motorcycle": "motorcycle (real)"}


def test_a_set_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(ConfigError, match="no set is named 'kiti'"):
        labelled_sets(root, ["kiti"])
