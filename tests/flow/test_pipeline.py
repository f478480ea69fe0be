"""From data to report through the functions and commands of deq-flow, at the size of the smoke profile."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from tests.jobs import run
from tests.profiles import MINI, SMOKE

from deq_core.experiment import config
from deq_core.experiment.files import write_json
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.report import Page, Results
from deq_core.experiment.study.stage import Section, Single
from deq_core.experiment.tables import Row, numbers, read_rows, write_rows
from deq_core.experiment.tracking.run import ignore
from deq_core.experiment.tracking.store.connection import connect
from deq_flow.cli import main
from deq_flow.data.batches import FlowBatch
from deq_flow.data.mini.write import MiniConfig, write_mini
from deq_flow.data.samples import FlowSample
from deq_flow.evaluation.baselines import Baseline, dis, zero
from deq_flow.evaluation.evaluate import Prediction, evaluate, labelled_sets, summary
from deq_flow.networks import load
from deq_flow.reports import curriculum, errors, table
from deq_flow.reports import gradients as gradients_report
from deq_flow.studies import gradients
from deq_flow.studies.flow import Flow
from deq_flow.studies.table import BASELINES, EVALUATE, network_method
from deq_flow.training.train import train
from workflows.publication import findings


@pytest.fixture(scope="module")
def profile() -> Flow:
    return replace(config.load(Flow, SMOKE, "flow"), seeds=(0, 1))


@pytest.fixture(scope="module")
def data(profile: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "flow"
    assert isinstance(profile.data, MiniConfig)
    write_mini(root, profile.data)
    return root


@pytest.fixture(scope="module")
def results(profile: Flow, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pipeline: every method trained from every seed and evaluated, and the baselines."""
    root = tmp_path_factory.mktemp("results")
    recipe = profile.train["deq"]
    recipe = replace(recipe, steps=3, every=replace(recipe.every, evaluate=2))
    for method in profile.methods:
        for seed in profile.seeds:
            name = f"{method}-{seed}"
            train(
                profile.model[method],
                recipe,
                seed=seed,
                data=data,
                out=root / "train" / name,
                scratch=root / "scratch" / name,
                log=ignore,
            )
            out, network = root / "evaluate" / name, root / "train" / name
            run(EVALUATE, Measured(method, seed), profile.evaluate, out, data=data, model=network)
    run(BASELINES, Single(), (profile.evaluate, profile.baselines), root / "baselines", data=data)
    return root


def places(results: Path, profile: Flow) -> tuple[Section, Results]:
    """Parameters and results, as reports take them."""
    write_json(results / "params.yaml", config.plain({"flow": profile}))  # JSON is YAML
    return Section(results / "params.yaml", "flow"), Results(results, "flow")


@pytest.fixture(scope="module")
def told(results: Path, profile: Flow) -> Page:
    return table.page(*places(results, profile))


def test_a_perfect_method_has_no_error_and_zero_flow_the_length_of_the_truth(data: Path) -> None:
    sets = labelled_sets(data)
    perfect = summary(evaluate(lambda batch: Prediction(batch.flow), sets, batch_size=3).samples)
    still = summary(evaluate(zero, sets, batch_size=3).samples)
    for name, pairs in sets.items():
        samples = [pairs[index] for index in range(len(pairs))]
        assert perfect[name]["epe"] == 0
        assert perfect[name]["px1"] == 1
        assert perfect[name]["pairs"] == len(samples)
        length = mean(float(sample.flow.norm(dim=0)[sample.valid].mean()) for sample in samples)
        assert still[name]["epe"] == pytest.approx(length, rel=1e-5)


def test_dis_finds_a_translation() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 24, 24, generator=generator)
    wide = 255 * torch.nn.functional.interpolate(noise, size=(96, 96), mode="bicubic").clamp(0, 1)
    shift = torch.tensor([3.0, -2.0])  # what is at (x, y) in image 1 is at (x + 3, y - 2) in image 2
    image1, image2 = wide[..., 10:74, 10:74], wide[..., 12:76, 7:71]
    target = shift[None, :, None, None].expand(1, 2, 64, 64)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    batch = FlowBatch(image1.contiguous(), image2.contiguous(), target, valid)
    flow = dis(Baseline(preset="medium", finest_scale=0))(batch).flow
    inner = (flow - target)[..., 12:-12, 12:-12]
    assert float(inner.norm(dim=1).mean()) < 0.1


def test_dis_says_the_same_of_a_pair_whatever_came_before_it() -> None:
    generator = torch.Generator().manual_seed(0)

    def pair(height: int, width: int) -> FlowBatch:
        image1, image2 = 255 * torch.rand(2, 1, 3, height, width, generator=generator)
        return FlowBatch(image1, image2, torch.zeros(1, 2, height, width), torch.ones(1, height, width).bool())

    small, large = pair(48, 64), pair(96, 128)
    method = dis(Baseline(preset="fast"))
    method(small)
    assert torch.equal(method(large).flow, dis(Baseline(preset="fast"))(large).flow)


def test_a_training_leaves_its_history_and_a_network_that_loads_from_the_file_alone(
    results: Path, profile: Flow, data: Path
) -> None:
    for method in profile.methods:
        folder = results / "train" / f"{method}-0"
        history = read_rows(folder / "history.csv")
        assert numbers(history, "step") == [1, 2, 3]
        assert [("val_epe" in row) for row in history] == [False, True, True]
        newest = json.loads((folder / "metrics.json").read_text())
        assert newest["loss"] == history[-1]["loss"]
        network = load(folder)
        assert not network.training
        again = network_method(network, profile.evaluate)
        rows = evaluate(again, {"kitti": labelled_sets(data)["kitti"]}, batch_size=2).samples
        recorded = [
            row for row in read_rows(results / "evaluate" / f"{method}-0" / "samples.csv") if row["set"] == "kitti"
        ]
        assert numbers(rows, "epe") == pytest.approx(numbers(recorded, "epe"), rel=1e-6)


def test_the_same_seed_trains_the_same_bytes_and_another_seed_others(
    results: Path, profile: Flow, data: Path, tmp_path: Path
) -> None:
    recipe = profile.train["deq"]
    recipe = replace(recipe, steps=3, every=replace(recipe.every, evaluate=2))
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        train(profile.model["deq"], recipe, seed=seed, data=data, out=out, scratch=tmp_path / "s", log=ignore)
        first = (results / "train" / "deq-0" / "model.safetensors").read_bytes()
        assert ((out / "model.safetensors").read_bytes() == first) is same
        (tmp_path / "s" / "training.pt").unlink()


def test_every_iteration_is_measured_and_the_prediction_is_the_one_after_the_steps_asked_for(
    results: Path, profile: Flow
) -> None:
    steps = read_rows(results / "evaluate" / "raft-0" / "steps.csv")
    clean = [row for row in steps if row["set"] == "sintel_clean"]
    assert numbers(clean, "step") == list(range(1, profile.evaluate.sweep + 1))
    assert "residual" not in clean[0]
    whole = json.loads((results / "evaluate" / "raft-0" / "metrics.json").read_text())
    assert profile.evaluate.unrolled_steps is not None
    assert clean[profile.evaluate.unrolled_steps - 1]["epe"] == pytest.approx(whole["sintel_clean"]["epe"], rel=1e-5)
    solved = read_rows(results / "evaluate" / "deq-0" / "steps.csv")
    assert len(solved) == 4 * profile.evaluate.sweep
    assert all(value > 0 for value in numbers(solved, "residual"))


def test_the_report_gives_mean_and_deviation_over_seeds(results: Path, profile: Flow, told: Page) -> None:
    each = [
        json.loads((results / "evaluate" / f"deq-{seed}" / "metrics.json").read_text())["kitti"]["epe"]
        for seed in profile.seeds
    ]
    assert told.metrics["deq"]["kitti"]["epe"] == pytest.approx(mean(each))
    assert told.metrics["deq"]["kitti"]["epe_std"] == pytest.approx(stdev(each))
    assert any(f"{mean(each):.2f} ± {stdev(each):.2f}" in part for part in told.parts)
    assert list(told.metrics) == ["zero", "dis", "dis_fine", "deq", "raft", "deq less"]


def test_a_report_follows_a_method_through_the_curriculum(results: Path, profile: Flow, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    shutil.copytree(results / "evaluate", tmp_path / "results" / "evaluate_things")
    later = {name: replace(getattr(profile.curriculum, name), methods=()) for name in ("sintel", "kitti")}
    shorter = replace(profile, curriculum=replace(profile.curriculum, **later))
    (text,) = curriculum.page(*places(tmp_path / "results", shorter)).parts
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| deq, chairs", "| deq, things"]
    assert rows[0][1:] == rows[1][1:]


def test_the_networks_of_a_gradient_are_trained_as_the_command_trains_them_once_and_lead_to_a_page(
    results: Path, profile: Flow, data: Path, tmp_path: Path
) -> None:
    study = replace(profile.gradients, methods=("phantom-1",), seeds=(0, 1))
    model, out = study.model, tmp_path / "gradients" / "phantom-1"
    settings = gradients.Settings(study.seeds, study.gradient["phantom-1"], model, study.train, study.measure)
    for again in (False, True):
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("training.pt")}
        found = run(gradients.GRADIENTS, Measured("phantom-1"), settings, out, data=data, scratch=tmp_path / "s")
        assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished network is not trained again"
        assert len(before) == (4 if again else 0)
    history = read_rows(out / "history.csv")
    for form, shown in (("last", replace(model, correction=())), ("corrected", model)):
        train(shown, study.train, seed=1, data=data, out=tmp_path / "t", scratch=tmp_path / form, log=ignore)
        own = [row for row in history if (row["supervised"], row["seed"]) == (form, 1)]
        assert numbers(own, "loss") == numbers(read_rows(tmp_path / "t" / "history.csv"), "loss")
    shutil.copytree(results / "baselines", tmp_path / "baselines")
    told = gradients_report.page(*places(tmp_path, replace(profile, gradients=study)))
    errors_of = [found["corrected"][str(seed)]["sintel_clean"]["epe"] for seed in study.seeds]
    still = told.metrics["zero"]["sintel_clean.epe"]
    own = told.metrics["methods"]["phantom-1"]["corrected"]
    assert (own["seeds"], own["lost"]) == (2, sum(error > still for error in errors_of))
    assert f"| {mean(errors_of):.2f} ± {stdev(errors_of):.2f} | " in told.parts[1]


def test_a_network_that_diverges_is_told_and_does_not_keep_the_others_from_being_measured(
    results: Path, profile: Flow, data: Path, tmp_path: Path
) -> None:
    study = replace(profile.gradients, methods=("phantom-1",))
    wild = replace(study.train, optim=replace(study.train.optim, lr=1e30, clip=None))
    settings = gradients.Settings(study.seeds, study.gradient["phantom-1"], study.model, wild, study.measure)
    case, out = Measured("phantom-1"), tmp_path / "gradients" / "phantom-1"
    found = run(gradients.GRADIENTS, case, settings, out, data=data, scratch=tmp_path / "s")
    assert found == {form: {"0": {"diverged": 1.0}} for form in ("last", "corrected")}
    fine = {"sintel_clean": {"epe": 2.0, "residual": 0.1}, "gradient_norm": 3.0}
    write_json(out / "metrics.json", {**found, "corrected": {"0": fine}})
    for name in ("steps", "history"):
        write_rows(out / f"{name}.csv", [])
    shutil.copytree(results / "baselines", tmp_path / "baselines")
    told = gradients_report.page(*places(tmp_path, replace(profile, gradients=study)))
    assert "| phantom-1 | last state only | - | - | - | 1 of 1 |" in told.parts[1]
    assert "| phantom-1 | last and corrected states | 2.00 | 0.100 | 3 | " in told.parts[1]
    assert "1 of 1 trained with phantom-1 (last state only)" in findings.gradients(told.metrics)


def test_the_report_has_its_figures(told: Page) -> None:
    assert set(told.figures) == {"learning_curves", "epe", "iterations", "example"}


@pytest.mark.parametrize(("name", "titled"), [("kitti", "KITTI 2015"), ("chairs", "FlyingChairs, validation")])
def test_iterations_are_drawn_of_the_sets_that_were_measured(name: str, titled: str) -> None:
    rows: list[Row] = [{"set": name, "step": step, "epe": 2 / step, "residual": 0.5 / step} for step in (1, 2)]
    drawn = table.iterations({"deq": [rows]})
    assert [axes.get_title() for axes in drawn.axes] == [titled, titled]


def test_pairs_of_different_sizes_are_evaluated_apart() -> None:
    def sample(height: int) -> FlowSample:
        image = torch.zeros(3, height, 32, dtype=torch.uint8)
        ones = torch.ones(height, 32, dtype=torch.bool)
        return FlowSample(image, image, torch.ones(2, height, 32), ones, f"height {height}")

    sizes: list[tuple[int, ...]] = []

    def method(batch: FlowBatch) -> Prediction:
        sizes.append(tuple(batch.flow.shape))
        return Prediction(torch.zeros_like(batch.flow))

    pairs = [sample(16), sample(16), sample(24)]
    rows = evaluate(method, {"kitti": pairs}, batch_size=8).samples
    assert sizes == [(2, 2, 16, 32), (1, 2, 24, 32)]
    assert numbers(rows, "epe") == pytest.approx([2**0.5] * 3)


def failure_of(*arguments: str) -> str:
    """What the command, which must fail, has to say."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert isinstance(stopped.value.code, str), "a message, and no traceback"
    return stopped.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        ("schema", "flow"),
        ("download", "--params", str(SMOKE), "--out"),
        ("study", "delta-sine", "fit=release", "seed=0", "--params", str(SMOKE), "--out"),
        ("export", "default", "--format", "onnx", "--steps", "1", "--out"),
        ("evaluate", "default", "--data", "data", "--out"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_output_that_cannot_be_made_is_one_line_before_any_work(arguments: tuple[str, ...]) -> None:
    message = failure_of(*arguments, "/proc/no/out")
    assert message.startswith("deq-flow: cannot write /proc/no/out: the folder does not exist and cannot be made")
    assert "\n" not in message


def smoke_params(cwd: Path, *changes: tuple[str, str]) -> None:
    text = SMOKE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (cwd / "params.yaml").write_text(text)


@pytest.mark.parametrize(
    ("report", "pipeline"),
    [("table", "flow"), ("curriculum", "flow"), ("delta-sweep", "delta"), ("delta-inr", "delta")],
)
def test_results_that_are_missing_are_named(
    report: str, pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    smoke_params(tmp_path)
    with pytest.raises(SystemExit, match=rf"(?s)results: expected .*`snakemake {pipeline}` makes them"):
        main(["report", report, "--results", "results", "--out", "out"])
    assert not Path("out").exists()


def test_a_network_that_is_not_named_is_asked_for(tmp_path: Path, tracking_database: Path) -> None:
    smoke_params(tmp_path)
    said = failure_of("study", "reuse", "network=deq", "--out", "out")
    assert said == "deq-flow: expected --checkpoint, the network that is measured"


def test_help_says_where_a_download_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["download", "--help"])
    shown = re.sub(r"[│\s]+", " ", capsys.readouterr().out)  # however it is wrapped
    assert re.search(r"--out .*\(default: data/flow; with a published NAME, data\)", shown)
    assert "default: None" not in shown


def test_data_are_checked_by_name(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check-data", "sintel", "--data", str(data), "--no-released"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"problems": 0}
    broken = tmp_path / "data"
    shutil.copytree(data / "Sintel", broken / "Sintel")
    frame = next((broken / "Sintel").rglob("*.png"))
    frame.write_bytes(frame.read_bytes()[:50])
    with pytest.raises(SystemExit) as stopped:
        main(["check-data", "sintel", "--data", str(broken), "--no-released"])
    assert stopped.value.code == 1
    assert frame.name in capsys.readouterr().out


def test_a_set_that_is_fetched_by_hand_says_how() -> None:
    assert "by hand" in failure_of("download", "spring")
    assert "sintel" in failure_of("download", "sintle")


def test_the_command_is_installed_and_prints_its_result_as_one_line_of_json(tmp_path: Path) -> None:
    shutil.copy(SMOKE, tmp_path / "params.yaml")
    command = [str(Path(sys.executable).with_name("deq-flow")), "download"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    files = [path for path in (tmp_path / "data" / "flow").rglob("*") if path.is_file()]
    assert json.loads(done.stdout.splitlines()[-1])["files"] == len(files)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("gamma: 0.8", "gama: 0.8"), "flow.train.deq.gama"),
        (("batch_size: 8", "batch_size: eight"), "flow.train.deq.batch_size"),
        (("kind: phantom", "kind: fantom"), "flow.model.deq.layer.adjoint.kind"),
        (("methods: [deq, raft]", "methods: [deq, draft]"), "draft"),
    ],
)
def test_a_bad_parameter_stops_any_command_before_it_writes(
    change: tuple[str, str], names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MINI.read_text()
    assert change[0] in text
    (tmp_path / "params.yaml").write_text(text.replace(*change))
    monkeypatch.chdir(tmp_path)
    message = failure_of("download", "--out", "data/flow")
    assert names in message
    assert "params.yaml" in message
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_damaged_file_stops_the_training_that_reads_it_by_name(
    data: Path, tracking_database: Path, tmp_path: Path
) -> None:
    smoke_params(tmp_path)
    copy = tmp_path / "data" / "flow"
    shutil.copytree(data, copy)
    flo = next((copy / "FlyingChairs_release" / "data").glob("*.flo"))
    flo.write_bytes(flo.read_bytes()[:-100])
    assert flo.name in failure_of("train", "--method", "deq", "--data", "data/flow", "--out", "out")
    assert not (tmp_path / "out").exists()


def test_a_later_stage_says_that_it_begins_from_random_weights(
    tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke_params(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr("deq_flow.training.train.train", lambda *_, **__: {})
    said = []
    for given in (["chairs"], ["things"], ["things", "--start", "."]):
        main(["train", "--method", "deq", "--data", ".", "--out", "out", "--stage", *given])
        said.append("random weights; --start names" in capsys.readouterr().err)
    assert said == [False, True, False]


def test_runs_of_a_curriculum_are_below_the_stage_before_and_name_their_data(
    tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: object, out: Path, **__: object) -> dict[str, float]:
        out.mkdir()
        (out / "model.safetensors").write_text(out.name)
        return {}

    smoke_params(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr("deq_flow.training.train.train", trained)
    for stage, start in (("chairs", []), ("things", ["--start", "chairs"]), ("sintel", ["--start", "things"])):
        main(["train", "--method", "deq", "--data", ".", "--out", stage, "--stage", stage, *start])
    client = connect()
    (experiment,) = (one.experiment_id for one in client.search_experiments() if one.name == "flow")
    chairs, things, sintel = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    assert [run.info.run_name for run in (chairs, sintel)] == ["flow.train deq seed 0", "flow.sintel deq seed 0"]
    assert things.data.tags["mlflow.parentRunId"] == chairs.info.run_id
    assert sintel.data.tags["mlflow.parentRunId"] == things.info.run_id
    marks = {"pipeline": "flow", "kind": "train", "method": "deq", "seed": "0"}
    for run_ in (chairs, things, sintel):
        assert {name: run_.data.tags[name] for name in marks} == marks
        assert run_.inputs is not None
        assert [one.dataset.name for one in run_.inputs.dataset_inputs] == ["."]


def test_a_difference_is_that_of_scenes_with_an_interval_of_other_scenes() -> None:
    def rows(*errors: float) -> list[list[Row]]:
        names = ("a/1", "a/2", "b/1", "c/1")
        return [[{"set": "sintel_clean", "name": name, "epe": e} for name, e in zip(names, errors, strict=True)]]

    own = rows(1.0, 2.0, 3.0, 4.0)
    found = errors.differences({"own": own, "same": own, "peer": rows(2.0, 3.0, 3.5, 5.0)}, "own", ["same", "peer"])
    assert found["same"]["sintel_clean"] == {"difference": 0.0, "low": 0.0, "high": 0.0, "scenes": 3.0}
    apart = found["peer"]["sintel_clean"]  # of three scenes: -1, -0.5 and -1
    assert apart["difference"] == pytest.approx(-2.5 / 3)
    assert -1 <= apart["low"] < apart["difference"] < apart["high"] <= -0.5
