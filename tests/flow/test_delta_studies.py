"""The studies of the delta rule from their parameters to the reports, at a size of seconds."""

import json
from pathlib import Path

import pytest
import torch
from tests.flow.small import equilibrium_model, mini, store
from tests.jobs import run

from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.data.arrays import read_arrays
from deq_core.experiment.outputs.written import files_of
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.report import Page, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import grouped, numbers, read_rows, spread
from deq_flow.cli import main
from deq_flow.data.mini.write import write_mini
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.networks import SHIPPED
from deq_flow.params import UnrolledModel
from deq_flow.reports.delta import convergence, images, sine
from deq_flow.reports.delta import sweep as delta_sweep
from deq_flow.studies.delta.convergence import CONVERGENCE, trajectory
from deq_flow.studies.delta.images import IMAGES, Represented
from deq_flow.studies.delta.section import Delta
from deq_flow.studies.delta.sine import SINE, Fit
from deq_flow.studies.delta.sweep import SWEEP
from deq_flow.studies.delta.trajectories import convergence_steps
from deq_flow.studies.equilibrium import equilibrium_network

PARAMETERS = """
delta:
  seeds: [0, 1]
  methods: [deq]
  method_seeds: [0, 1]
  stage: train
  shipped: [default]
  dpi: 120
  sweep:
    deq: &sweep
      sets:
        sintel_clean: {starts: [stream, cold], frames: 2, validation: {set: validation_video}}
        kitti: {}
      steps: [1, 3]
      batch_size: 2
      variants:
        km:
          solver: {kind: fixed_point_iteration, damping: 0.1}
          stop: {max_steps: 3}
          rule: {thresholds: [0.05]}
        anderson:
          solver: {kind: anderson}
          stop: {max_steps: 3}
          rule: {thresholds: [0.05], reference: sent}
      example: {set: sintel_clean, variant: km, threshold: 0.05}
    default: {<<: *sweep, sets: {sintel_clean: {frames: 1}}}
  convergence:
    deq: &watch
      sets: [sintel_clean]
      solver: {kind: fixed_point_iteration}
      steps: 6
      tolerance: 0.05
      pairs: 2
    default: {<<: *watch, steps: 3, pairs: 1}
  sine:
    release: &sine
      steps: 3
      optim: {name: adam, lr: 0.01}
      rules: {seen: {thresholds: [0.01]}}
    equilibrium:
      <<: *sine
      evaluations: 20
      layer: &layer
        solver: {kind: fixed_point_iteration}
        stop: {max_steps: 4}
        adjoint: {kind: phantom, steps: 1}
  images:
    picture: {size: 8}
    steps: 3
    optim: {name: adam, lr: 1.0e-3}
    evaluations: 4
    rules: {seen: {thresholds: [0.01, 0.1]}}
  representations:
    siren: &siren {kind: siren, width: 8, scale: 10.0, layer: *layer}
    siren_delta: {<<: *siren, threshold: 0.01}
    fourier: {<<: *siren, kind: fourier}
"""


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(PARAMETERS)
    return path


@pytest.fixture(scope="module")
def settings(params: Path) -> Delta:
    return config.load(Delta, params, "delta")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "flow"
    write_mini(root, mini(height=32, width=40, scenes=2, frames=4, kitti_pairs=3))
    return root


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks as training leaves them, but for the training."""
    root = tmp_path_factory.mktemp("train")
    for seed in (0, 1):
        store(root / f"deq-{seed}", equilibrium_model(3), seed=seed)
    return root


@pytest.fixture(scope="module")
def results(settings: Delta, data: Path, networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every study of every seed."""
    root = tmp_path_factory.mktemp("results")
    found = {Measured("default"): SHIPPED["default"]}
    found |= {Measured("deq", seed): networks / f"deq-{seed}" for seed in settings.method_seeds}
    for case, model in found.items():
        name, key = model.name, case.network
        run(SWEEP, case, settings.sweep[key], root / "sweep" / name, data=data, model=model)
        run(CONVERGENCE, case, settings.convergence[key], root / "convergence" / name, data=data, model=model)
    for seed in settings.seeds:
        scratch = root / "scratch" / str(seed)
        for fit, chosen in settings.sine.items():
            run(SINE, Fit(fit, seed), chosen, root / "sine" / f"{fit}-{seed}", scratch=scratch / fit)
        for name, chosen in settings.representations.items():
            both, out = (settings.images, chosen), root / "inr" / f"{name}-{seed}"
            run(IMAGES, Represented(name, seed), both, out, scratch=scratch / name)
    return root


def test_a_sweep_leaves_one_row_a_case_and_one_a_pair(results: Path, settings: Delta) -> None:
    folder = results / "sweep" / "deq-0"
    table = read_rows(folder / "sweep.csv")
    kinds = grouped(table, ("set", "split"))
    places = [("sintel_clean", "test"), ("sintel_clean", "validation"), ("kitti", "test")]
    videos, validation, pairs = (kinds[key] for key in places)
    # threshold 0 after two numbers of steps and one threshold, of two solvers, from two starts
    assert len(videos) == len(validation) == 2 * 2 * (2 + 1)
    assert len(pairs) == 2 * (2 + 1)
    assert [{row["pairs"] for row in rows} for rows in (videos, validation, pairs)] == [{4}, {1}, {3}]
    samples = read_rows(folder / "samples.csv")
    assert len(samples) == 4 * len(videos) + len(validation) + 3 * len(pairs)
    evaluations = read_rows(folder / "evaluations.csv")
    assert len(evaluations) == sum(numbers(table, "max_steps"))
    layers = read_rows(folder / "layers.csv")
    assert "flow_head.conv2" not in {row["layer"] for row in layers}
    assert {row["layer"] for row in layers} >= {"encoder.convc1", "gru.convq2", "flow_head.conv1"}
    metrics = json.loads((folder / "metrics.json").read_text())
    wanted = {"variant": "km", "start": "cold", "threshold": 0.05}
    (row,) = (row for row in videos if wanted.items() <= row.items())
    assert metrics["sintel_clean.km.cold.0.05.3.macs_saved"] == row["macs_saved"]


def test_maps_show_all_cells_at_the_first_evaluation_and_fewer_later(results: Path) -> None:
    arrays = read_arrays(results / "sweep" / "deq-0" / "maps.npz")
    assert arrays["image"].shape == (3, 32, 40)
    assert arrays["cold"].shape == (3, 8, 10)
    assert (arrays["cold"][0] == 1).all()
    assert arrays["cold"][2].mean() < 1
    assert arrays["stream"][0].mean() < 1  # its memories are those of the frame before


def test_settling_is_that_of_the_trajectory(results: Path, networks: Path, data: Path, settings: Delta) -> None:
    model = equilibrium_network(networks / "deq-0")
    pairs = labelled_sets(data, ["sintel_clean"])["sintel_clean"]
    states, errors, residuals = trajectory(model, pairs[0], settings.convergence["deq"], of="sintel_clean")
    with torch.no_grad():
        pair = model.encode(pairs[0].image1[None], pairs[0].image2[None])
        f, z = model.map(pair), model.start(pair)
        for step in range(6):
            z = f(*z)
            torch.testing.assert_close(states[step], torch.cat(z, dim=1)[0])
    assert len(errors) == len(residuals) == 6
    hidden = states[:, : model.size.hidden]
    bound = 0.05 * hidden[-1].square().mean().sqrt()
    expected = convergence_steps(hidden, bound).float().mean(dim=0)
    arrays = read_arrays(results / "convergence" / "deq-0" / "maps.npz")
    torch.testing.assert_close(torch.from_numpy(arrays["hidden_lasting"]), expected)
    rows = read_rows(results / "convergence" / "deq-0" / "steps.csv")
    _, other, _ = trajectory(model, pairs[1], settings.convergence["deq"], of="sintel_clean")
    assert numbers(rows, "epe") == pytest.approx([(a + b) / 2 for a, b in zip(errors, other, strict=True)])
    shares = [row for row in read_rows(results / "convergence" / "deq-0" / "histogram.csv") if row["part"] == "flow"]
    assert sum(numbers(shares, "share")) == pytest.approx(2)  # by each criterion


PAGES = {
    "sweep": (delta_sweep.page, {"tradeoff", "activity", "maps"}),
    "convergence": (convergence.page, {"curves", "maps"}),
    "sine": (sine.page, {"fits"}),
    "inr": (images.page, {"quality", "images"}),
}


@pytest.fixture(scope="module")
def told(params: Path, results: Path) -> dict[str, Page]:
    """The report of each study."""
    places = Section(params, "delta"), Results(results, "delta")
    return {study: page(*places) for study, (page, _) in PAGES.items()}


@pytest.mark.parametrize("study", PAGES)
def test_a_report_has_its_figures(study: str, told: dict[str, Page], tmp_path: Path) -> None:
    told[study].write(tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out").glob("*.svg")} == PAGES[study][1]


def test_a_report_gives_mean_and_deviation_over_seeds(told: dict[str, Page], results: Path, settings: Delta) -> None:
    page = told["inr"]
    quality = [
        numbers([row], "psnr")[0]
        for seed in settings.seeds
        for row in read_rows(results / "inr" / f"siren-{seed}" / "sweep.csv")
        if (row["threshold"], row["split"]) == (0.1, "test")
    ]
    assert page.metrics["image.siren.seen.0.1.4.psnr"] == pytest.approx(sum(quality) / 2)
    assert any(spread([{"psnr": value} for value in quality], "psnr", "{:.2f}") in part for part in page.parts)
    assert page.metrics["settling"]["image, siren"].keys() >= {"p5", "p50_std", "unsettled"}


def test_a_shipped_checkpoint_has_rows_as_long_as_those_of_seeds(told: dict[str, Page]) -> None:
    lines = "\n".join(told["sweep"].parts).splitlines()
    own, shipped = (
        {line.count("|") for line in lines if line.startswith(f"| {name} | ")} for name in ("deq", "default")
    )
    assert own == shipped
    assert "flow, default, sintel_clean, hidden" in told["convergence"].metrics["settling"]


def command(cwd: Path, *arguments: str) -> None:
    (cwd / "params.yaml").write_text(PARAMETERS)
    main(arguments)


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_commands_run_the_studies_to_the_same_bytes(
    results: Path,
    data: Path,
    networks: Path,
    told: dict[str, Page],
    tracking_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command(tmp_path, "study", "delta-sine", "fit=release", "seed=1", "--out", "out/sine")
    assert printed(capsys)["mse"] == pytest.approx(
        json.loads((results / "sine" / "release-1" / "metrics.json").read_text())["mse"], abs=1e-6
    )
    command(tmp_path, "study", "delta-inr", "representation=siren_delta", "seed=0", "--out", "out/inr")
    assert 0 < printed(capsys)["train_macs_saved"] < 1
    assert [path.name for path in (tmp_path / ".scratch").iterdir()] == []
    case = ["network=deq", "seed=0", "--checkpoint", str(networks / "deq-0"), "--data", str(data)]
    command(tmp_path, "study", "delta-convergence", *case, "--out", "out/convergence")
    for path in files_of(results / "convergence" / "deq-0"):
        assert path.read_bytes() == (tmp_path / "out/convergence" / path.name).read_bytes(), path
    command(tmp_path, "report", "delta-sine", "--results", str(results), "--out", "out/report")
    told["sine"].write(tmp_path / "out/page")
    for path in files_of(tmp_path / "out/page"):
        assert path.read_bytes() == (tmp_path / "out/report" / path.name).read_bytes(), path
    assert "![fits](fits.svg)" in (tmp_path / "out/report/report.md").read_text()
    command(tmp_path, "schema", "delta", "schema.json")
    assert json.loads((tmp_path / "schema.json").read_text()) == config.schema(Delta)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("evaluations: 4", "evaluation: 4"), "delta.images.evaluation"),
        (("variant: km", "variant: kn"), "delta.sweep"),
        (("tolerance: 0.05", "tolerance: 0"), "delta.convergence"),
        (("shipped: [default]", "shipped: [other]"), "delta: methods, shipped: not in `sweep`: other"),
        (("methods: [deq]", "methods: [default]"), "delta: methods, shipped: expected at least one network, each"),
    ],
)
def test_a_bad_parameter_stops_any_command(
    change: tuple[str, str], names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert change[0] in PARAMETERS
    (tmp_path / "params.yaml").write_text(PARAMETERS.replace(*change))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=names):
        main(["study", "delta-sine", "fit=release", "seed=0", "--out", "out"])


def test_a_network_without_a_fixed_point_is_refused(tmp_path: Path) -> None:
    unrolled = store(tmp_path, UnrolledModel(name="raft-mini", steps=2))
    with pytest.raises(CheckpointError, match="expected an equilibrium network, got RAFT"):
        equilibrium_network(unrolled)
