"""The delta studies from their parameters to the report, through the commands of deq-flow, at a size of seconds."""

import json
from pathlib import Path

import pytest
import torch

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.data.arrays import read_arrays
from deq_core.experiment.tables import markdown, numbers, read_rows, spread
from deq_core.experiment.tracking.run import ignore
from deq_core.experiment.written import files_of
from deq_flow.cli import main
from deq_flow.convergence import trajectory, watch_convergence
from deq_flow.data.mini.training import TrainingSetsConfig
from deq_flow.data.mini.videos import VideosConfig
from deq_flow.data.mini.write import MiniConfig, write_mini
from deq_flow.delta import equilibrium_network, evaluate_delta, labelled
from deq_flow.delta_params import Delta
from deq_flow.delta_plot import figures
from deq_flow.delta_report import report
from deq_flow.delta_tables import DeltaTables, shared_of
from deq_flow.inr.images import fit_image
from deq_flow.inr.sine import fit_sine
from deq_flow.networks import SHIPPED, build_network
from deq_flow.params import EquilibriumModel, UnrolledModel
from deq_flow.settling import settled_after

PARAMETERS = """
run:
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
          sintel_clean: {starts: [cold, stream], frames: 2}
          kitti: {}
        dense_steps: [1, 3]
        batch_size: 2
        variants:
          km:
            solver: {kind: fixed_point_iteration, damping: 0.1}
            stop: {max_steps: 3}
            rule: {thresholds: [0, 0.05]}
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
        points: 3
      default: {<<: *watch, steps: 3, pairs: 1}
    sine:
      release: &sine
        steps: 3
        optim: {name: adam, lr: 0.01}
        rules: {seen: {thresholds: [0, 0.01]}}
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
      rules: {seen: {thresholds: [0, 0.01, 0.1]}}
    representations:
      siren: &siren {kind: siren, width: 8, scale: 10.0, layer: *layer}
      siren_delta: {<<: *siren, threshold: 0.01}
      fourier: {<<: *siren, kind: fourier}
"""
MODEL = EquilibriumModel(
    name="deq-flow-mini",
    layer=LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=3), adjoint=deq.Phantom(steps=1)),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Delta:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(PARAMETERS)
    return config.load(Delta, path, "delta")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "flow"
    least = MiniConfig(
        height=32,
        width=40,
        train_pairs=1,
        val_pairs=1,
        scenes=2,
        frames=4,
        kitti_pairs=3,
        motorcycle_scale=8,
        training=TrainingSetsConfig(things_scenes=1, sintel_scenes=1, frames=2, kitti_pairs=1, hd1k_sequences=1),
        videos=VideosConfig(videos=1, frames=2),
    )
    write_mini(root, least)
    return root


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks as training leaves them, but for the training."""
    root = tmp_path_factory.mktemp("train")
    for seed in (0, 1):
        torch.manual_seed(seed)
        checkpoint.save(root / f"deq-{seed}" / "model.safetensors", build_network(MODEL), MODEL)
    return root


@pytest.fixture(scope="module")
def results(settings: Delta, data: Path, networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every study of every seed."""
    root = tmp_path_factory.mktemp("results")
    sweep, steps = settings.sweep["default"], settings.convergence["default"]
    evaluate_delta(SHIPPED["default"], sweep, data=data, out=root / "sweep" / "default", log=ignore)
    watch_convergence(SHIPPED["default"], steps, data=data, out=root / "convergence" / "default", log=ignore)
    for seed in settings.seeds:
        model, name = networks / f"deq-{seed}", f"deq-{seed}"
        evaluate_delta(model, settings.sweep["deq"], data=data, out=root / "sweep" / name, log=ignore)
        watch_convergence(model, settings.convergence["deq"], data=data, out=root / "convergence" / name, log=ignore)
        for fit, chosen in settings.sine.items():
            out, scratch = root / "sine" / f"{fit}-{seed}", root / "scratch" / f"{fit}-{seed}"
            fit_sine(chosen, seed=seed, out=out, scratch=scratch, log=ignore)
        for representation, chosen in settings.representations.items():
            out = root / "inr" / f"{representation}-{seed}"
            scratch = root / "scratch" / f"{representation}-{seed}"
            fit_image(settings.images, chosen, seed=seed, out=out, scratch=scratch, log=ignore)
    return root


def tables_of(results: Path, settings: Delta) -> DeltaTables:
    return DeltaTables.below(
        results,
        methods=settings.methods,
        method_seeds=settings.method_seeds,
        shipped=settings.shipped,
        fits=tuple(settings.sine),
        representations=tuple(settings.representations),
        seeds=settings.seeds,
    )


def test_a_sweep_leaves_one_row_a_case_and_one_a_pair(results: Path, settings: Delta) -> None:
    folder = results / "sweep" / "deq-0"
    table = read_rows(folder / "sweep.csv")
    videos, pairs = ([row for row in table if row["set"] == name] for name in settings.sweep["deq"].sets)
    # dense and under the rule, from two starts; km: 2 thresholds, anderson: 1
    assert len(videos) == 2 * (2 + 2) + 2 * (2 + 1)
    assert len(pairs) == 2 + 2 + 2 + 1
    assert {row["pairs"] for row in videos} == {4}
    assert {row["pairs"] for row in pairs} == {3}
    samples = read_rows(folder / "samples.csv")
    assert len(samples) == 4 * len(videos) + 3 * len(pairs)
    evaluations = read_rows(folder / "evaluations.csv")
    under_rule = [row for row in table if "threshold" in row]
    assert len(evaluations) == 3 * len(under_rule)
    layers = read_rows(folder / "layers.csv")
    assert "flow_head.conv2" not in {row["layer"] for row in layers}
    assert {row["layer"] for row in layers} >= {"encoder.convc1", "gru.convq2", "flow_head.conv1"}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["sintel_clean.km.cold.0.05.macs_saved"] == numbers(under_rule, "macs_saved")[1]


def test_maps_show_all_cells_at_the_first_evaluation_and_fewer_later(results: Path) -> None:
    arrays = read_arrays(results / "sweep" / "deq-0" / "maps.npz")
    assert arrays["image"].shape == (3, 32, 40)
    assert arrays["cold"].shape == (3, 8, 10)
    assert (arrays["cold"][0] == 1).all()
    assert arrays["cold"][2].mean() < 1
    assert arrays["stream"][0].mean() < 1  # its memories are those of the frame before


def test_settling_is_that_of_the_trajectory(results: Path, networks: Path, data: Path, settings: Delta) -> None:
    model = equilibrium_network(networks / "deq-0")
    pairs = labelled(data, ["sintel_clean"])["sintel_clean"]
    states, errors, residuals = trajectory(model, pairs[0], settings.convergence["deq"])
    with torch.no_grad():
        pair = model.encode(pairs[0].image1[None], pairs[0].image2[None])
        f, z = model.map(pair), model.start(pair)
        for step in range(6):
            z = f(*z)
            torch.testing.assert_close(states[step], torch.cat(z, dim=1)[0])
    assert len(errors) == len(residuals) == 6
    hidden = states[:, : model.size.hidden]
    bound = 0.05 * hidden[-1].square().mean().sqrt()
    expected = settled_after(hidden, bound).float().mean(dim=0)
    arrays = read_arrays(results / "convergence" / "deq-0" / "maps.npz")
    torch.testing.assert_close(torch.from_numpy(arrays["hidden_lasting"]), expected)
    assert arrays["paths"].shape == (3, 6, model.size.hidden + 2)
    rows = read_rows(results / "convergence" / "deq-0" / "steps.csv")
    other, _, _ = (trajectory(model, pairs[index], settings.convergence["deq"])[1] for index in (1, 0, 0))
    assert numbers(rows, "epe") == pytest.approx([(a + b) / 2 for a, b in zip(errors, other, strict=True)])
    shares = [row for row in read_rows(results / "convergence" / "deq-0" / "histogram.csv") if row["part"] == "flow"]
    assert sum(numbers(shares, "share")) == pytest.approx(2)  # by each criterion


def test_the_report_gives_mean_and_deviation_over_seeds(results: Path, settings: Delta, tmp_path: Path) -> None:
    values = report(tables_of(results, settings), ["inr.svg"], out=tmp_path)
    quality = [
        numbers([row], "psnr")[0]
        for seed in settings.seeds
        for row in read_rows(results / "inr" / f"siren-{seed}" / "thresholds.csv")
        if row["threshold"] == 0.1
    ]
    assert values["image.siren.seen.0.1.psnr"] == pytest.approx(sum(quality) / 2)
    text = (tmp_path / "report.md").read_text()
    assert spread([{"psnr": value} for value in quality], "psnr", "{:.2f}") in text
    assert " ± " in text
    assert "figures/inr.svg" in text
    assert json.loads((tmp_path / "metrics.json").read_text()) == values
    widths = {line.count("|") for line in text.splitlines() if line.startswith(("| deq | ", "| default | "))}
    assert len(widths) == 1
    assert "| flow, default, sintel_clean, hidden |" in text
    assert values["settling"]["image, siren"].keys() >= {"p5", "p50_std", "unsettled"}


def test_work_is_a_share_of_the_longest_dense_solve() -> None:
    whole = {"set": "a", "macs_dense": 200.0, "macs_sparse": 200.0, "macs_hoisted": 150.0}
    part = {"set": "a", "macs_dense": 200.0, "macs_sparse": 50.0, "macs_hoisted": 150.0, "release_saved": 0.8}
    first, second = shared_of([whole, part])
    assert (first["work"], first["hoisted"]) == (100, 75)
    assert second["work"] == 25
    assert second["release"] == pytest.approx(20)
    assert "release" not in first


def test_a_table_is_markdown() -> None:
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def command(cwd: Path, *arguments: str) -> None:
    (cwd / "params.yaml").write_text(PARAMETERS)
    main(arguments)


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_commands_run_the_studies_to_the_same_bytes(
    results: Path,
    settings: Delta,
    data: Path,
    networks: Path,
    tracking_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command(tmp_path, "sine", "--fit", "release", "--out", "out/sine/release-1", "--seed", "1")
    assert printed(capsys)["mse"] == pytest.approx(
        json.loads((results / "sine" / "release-1" / "metrics.json").read_text())["mse"], abs=1e-6
    )
    command(tmp_path, "inr", "--representation", "siren_delta", "--out", "out/inr/siren_delta-0")
    assert 0 < printed(capsys)["train_macs_saved"] < 1
    assert [path.name for path in (tmp_path / ".scratch").iterdir()] == []
    for name in ("delta", "convergence"):
        model = str(networks / "deq-0")
        command(tmp_path, name, "--network", "deq", "--model", model, "--data", str(data), "--out", f"out/{name}")
        printed(capsys)
    for study, name in (("sweep", "delta"), ("convergence", "convergence")):
        for path in files_of(results / study / "deq-0"):
            assert path.read_bytes() == (tmp_path / "out" / name / path.name).read_bytes(), path
    drawn = figures(tables_of(results, settings), out=results / "figures", dpi=120)
    assert {path.stem for path in drawn} == {
        *("flow_tradeoff", "flow_release", "flow_activity", "flow_maps", "flow_convergence", "flow_settling"),
        *("sine", "inr", "inr_images"),
    }
    command(tmp_path, "delta-plot", "--results", str(results), "--out", "out/figures")
    assert printed(capsys)["figures"] == len(drawn)
    for path in drawn:
        assert path.read_bytes() == (tmp_path / "out" / "figures" / path.name).read_bytes(), path.name
    command(tmp_path, "delta-report", "--results", str(results), "--out", "out")
    assert "flow.deq.kitti.anderson.cold.0.05.macs_saved" in printed(capsys)
    assert "![sine.svg](figures/sine.svg)" in (tmp_path / "out" / "report.md").read_text()
    command(tmp_path, "delta-schema", "schema.json")
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
        main(["sine", "--fit", "release", "--out", "out"])


def test_a_network_without_a_fixed_point_is_refused(tmp_path: Path, settings: Delta, data: Path) -> None:
    model = UnrolledModel(name="raft-mini", steps=2)
    checkpoint.save(tmp_path / "model.safetensors", build_network(model), model)
    with pytest.raises(checkpoint.CheckpointError, match="expected an equilibrium network, got RAFT"):
        evaluate_delta(tmp_path, settings.sweep["deq"], data=data, out=tmp_path / "out", log=ignore)
    with pytest.raises(config.ConfigError, match=r"sets: expected names of chairs, .*, got sintel"):
        labelled(data, ["sintel"])
