"""Models are trained unrolled, then through the equilibrium; memory is a state of the training, whoever trains."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.core.experiment.mlflow_server import free_port
from tests.flow.interrupted import Interrupt, Interrupted
from tests.profiles import PAPER
from tests.sequence.recipes import MEASURE, MODEL, PROFILE, RECIPE, TEXT, UNROLLED
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, load_tensors
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.recipe import JacobianPenalty
from deq_core.experiment.tables import numbers, read_rows
from deq_core.experiment.tracking.run import ignore
from deq_core.experiment.training.optim import learning_rate
from deq_sequence import load, load_vocabulary
from deq_sequence.cli import main
from deq_sequence.config import VARIANTS
from deq_sequence.data import tokens as stored
from deq_sequence.data.batches import TokenBatch, batches
from deq_sequence.data.corpora import CorpusError
from deq_sequence.data.texts import TokenChoice, of_file
from deq_sequence.models.build import build
from deq_sequence.models.transformer import DEQTransformer
from deq_sequence.networks import save
from deq_sequence.params import Model, Train
from deq_sequence.studies.section import Sequence
from deq_sequence.train import objective, remembered, train


def run(folder: Path, data: Path, model: Model = MODEL, recipe: Train = RECIPE, seed: int = 0, log: Any = ignore):
    return train(model, recipe, seed=seed, data=data, out=folder / "out", scratch=folder / "scratch", log=log)


def test_a_network_with_another_norm_is_no_start(data: Path, tmp_path: Path) -> None:
    """Its weights have the same names and shapes."""
    tokens = stored.read(data / "characters")
    save(tmp_path / "pre.safetensors", build("mini", norm="pre", vocabulary=len(tokens.vocabulary)), tokens.vocabulary)
    folders = {"out": tmp_path, "scratch": tmp_path, "start": tmp_path / "pre.safetensors"}
    with pytest.raises(CheckpointError, match=r"pre\.safetensors: a network with norm 'pre', where mini has 'post'"):
        train(MODEL, RECIPE, seed=0, data=tokens, log=ignore, **folders)


@pytest.mark.parametrize("model", [MODEL, UNROLLED], ids=["equilibrium", "unrolled"])
def test_training_ends_with_a_model_that_loads(model: Model, data: Path, tmp_path: Path) -> None:
    newest = run(tmp_path, data, model)
    assert {"task_loss", "residual", "evaluations", "val_loss", "val_perplexity", "val_residual"} <= newest.keys()
    loaded = load(tmp_path / "out")
    assert loaded.equilibrium == model.equilibrium()
    vocabulary = load_vocabulary(tmp_path / "out", loaded)
    assert vocabulary.state() == stored.read(data / "characters").vocabulary.state()
    rows = read_rows(tmp_path / "out" / "history.csv")
    depths = numbers(rows, "evaluations")
    assert set(depths[:3]) <= {1.0, 2.0, 3.0}
    assert set(depths[3:]) == ({2.0} if model.steps else {4.0})  # one more, for the gradient


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by default."""
    folder = tmp_path_factory.mktemp("trained")
    run(folder, data)
    return folder / "out"


def test_another_seed_gives_other_weights(trained: Path, data: Path, tmp_path: Path) -> None:
    run(tmp_path, data, seed=1)
    first, second = (load_tensors(folder / "model.safetensors") for folder in (trained, tmp_path / "out"))
    assert any(not first[name].equal(tensor) for name, tensor in second.items())


def test_a_killed_training_resumes_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, accumulate=2, shift=True)
    run(tmp_path / "unbroken", data, recipe=recipe)
    for step in (2, 5):
        with pytest.raises(Interrupted):
            run(tmp_path / "broken", data, recipe=recipe, log=Interrupt(step))
    run(tmp_path / "broken", data, recipe=recipe)
    for name in ("model.safetensors", "history.csv", "metrics.json"):
        assert (tmp_path / "broken/out" / name).read_bytes() == (tmp_path / "unbroken/out" / name).read_bytes()


def tried(recipe: Train, numbered: list[tuple[int, TokenBatch]], memories: dict[str, Tensor]) -> list[float]:
    """Losses of some batches in turn, by the same weights."""
    torch.manual_seed(0)
    model = DEQTransformer(MODEL.architecture(96), MODEL.equilibrium()).train()
    losses = objective(recipe, 0, memories)
    return [float(losses(model, batch).total.detach()) for batch in numbered]


def test_a_batch_reads_what_the_one_before_in_its_lane_remembered(data: Path) -> None:
    text = stored.read(data / "characters").texts["train"]
    recipe = replace(RECIPE, accumulate=2, pretraining=None)
    stream = batches(text, batch_size=2, length=8, lanes=2)(0)
    numbered = [(number, next(stream)) for number in range(4)]
    memories: dict[str, Tensor] = {}
    in_turn = tried(recipe, numbered, memories)
    assert set(memories) == {f"lane {lane} {part}" for lane in (0, 1) for part in ("states", "injections")}
    assert len(remembered(memories, 1, torch.device("cpu"))) == MODEL.memory
    alone: dict[str, Tensor] = {}
    of_lane = [batch for batch in numbered if batch[1].lane == 1]
    assert tried(recipe, of_lane, alone) == [in_turn[1], in_turn[3]]
    forgetting = [(number, replace(batch, first=True)) for number, batch in of_lane]
    assert tried(recipe, forgetting, {})[1] != in_turn[3]


def test_the_penalty_is_added_with_its_weight(data: Path) -> None:
    text = stored.read(data / "characters").texts["train"]
    batch = (4, next(batches(text, batch_size=4, length=8)(0)))
    torch.manual_seed(0)
    model = DEQTransformer(MODEL.architecture(96), MODEL.equilibrium())
    for chance in (0.0, 1.0):
        recipe = replace(RECIPE, jacobian=JacobianPenalty(weight=2.0, chance=chance))
        found = objective(recipe, 0, {})(model, batch)
        assert (float(found.parts["jacobian"]) > 0) == (chance == 1.0)
        expected = float(found.parts["task_loss"]) + 2.0 * float(found.parts["jacobian"])
        assert float(found.total.detach()) == pytest.approx(expected, rel=1e-6)


def test_a_recipe_may_take_bfloat16_averages_and_a_penalty(data: Path, tmp_path: Path) -> None:
    change = {"precision": "bfloat16", "ema": 0.5, "jacobian": JacobianPenalty(weight=0.1), "jitter": (-1, 0)}
    newest = run(tmp_path, data, recipe=replace(RECIPE, **change))
    assert newest["jacobian"] > 0
    assert newest["val_loss"] > 0


def test_a_text_that_was_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"characters/vocabulary\.json: no such vocabulary"):
        run(tmp_path, tmp_path)


def test_rows_that_would_be_too_short_are_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="train: 300 tokens are too few for 200 rows of at least two"):
        run(tmp_path, data, recipe=replace(RECIPE, batch_size=200))


def test_sizes_that_cannot_have_the_vocabulary_are_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model: wt103 cannot have the text's vocabulary: cutoffs must ascend"):
        run(tmp_path, data, model=replace(MODEL, name="wt103"))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: replace(MODEL, name="midi"), "name must be one of wt103, .*, mini, mini-wide, got 'midi'"),
        (lambda: replace(MODEL, memory=-1), "memory must be at least 0 positions"),
        (lambda: replace(RECIPE, length=0), "length must be at least 1"),
        (lambda: replace(TEXT, tokens="byte_pairs"), "byte_pairs need a size of at least 256 tokens, got None"),
        (lambda: replace(PROFILE, methods=("deq", "rnn")), "methods: not in `model`: rnn"),
        (lambda: replace(PROFILE, texts={}), "train.text: not in `texts`: characters"),
        (lambda: replace(PROFILE, seeds=()), "expected at least one of each"),
        (
            lambda: replace(PROFILE, evaluate={"deq": MEASURE, "unrolled": replace(MEASURE, split="valid")}),
            "evaluate.unrolled.split: expected test as of evaluate.deq, since n-grams .* characters; got valid",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.usefixtures("tracking_database")
def test_the_commands_train_and_measure_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text(json.dumps({"sequence": config.plain(PROFILE)}))
    main(["download", "--out", "data"])
    assert set(json.loads((tmp_path / "data" / "manifest.json").read_text())["files"]) == {
        f"characters/{name}" for name in ("vocabulary.json", "train.npy", "valid.npy", "test.npy")
    }
    for method in PROFILE.methods:
        folder = f"results/train/{method}-0"
        main(["train", "--method", method, "--data", "data", "--out", folder])
        out = f"results/evaluate/{method}-0"
        main(
            ["study", "evaluate", f"method={method}", "seed=0", "--checkpoint", folder, "--data", "data", "--out", out]
        )
    assert list((tmp_path / ".scratch").iterdir()) == []
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    metrics = json.loads((tmp_path / "results" / "evaluate" / "unrolled-0" / "metrics.json").read_text())
    assert last["perplexity"] == pytest.approx(metrics["perplexity"], abs=1e-6)
    main(["study", "baselines", "--data", "data", "--out", "results/baselines"])
    orders = read_rows(tmp_path / "results" / "baselines" / "orders.csv")
    main(["report", "perplexity", "--results", "results", "--out", "report"])
    told = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert list(told["scores"]["characters"]) == ["Kneser-Ney 1", "Kneser-Ney 2", "Kneser-Ney 3", *PROFILE.methods]
    assert told["scores"]["characters"]["Kneser-Ney 2"]["perplexity"] == orders[1]["perplexity"]
    assert told["scores"]["characters"]["unrolled"]["perplexity"] == metrics["perplexity"]
    assert list(told["sweeps"]["deq"]["plain"]) == ["1", "2", "3", "4"]
    drawn = {path.stem for path in (tmp_path / "report").glob("*.svg")}
    assert drawn == {"bits_per_character", "iterations", "learning_curves"}


def one_of_two(rank: int, port: int, command: list[str]) -> None:
    """Runs a command as one of two processes, with torchrun's environment."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    main(command)


@pytest.mark.usefixtures("tracking_database")
def test_two_processes_have_the_loss_curve_of_one(
    trained: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same four rows of text: two processes of two, with a memory each, or one of four."""
    recipe = replace(RECIPE, processes=2)
    params = {"sequence": config.plain(replace(PROFILE, train={"deq": recipe, "unrolled": recipe}))}
    (tmp_path / "two.json").write_text(json.dumps(params))
    (data / "manifest.json").write_text("{}")
    command = f"train --method deq --data {data} --out two --params two.json".split()
    start_processes(one_of_two, args=(free_port(), command), nprocs=2, start_method="fork")
    assert len([line for line in capfd.readouterr().out.splitlines() if line.startswith("{")]) == 1
    curves = (read_rows(folder / "history.csv") for folder in (trained, tmp_path / "two"))
    for one, two in zip(*curves, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["residual"] == pytest.approx(one["residual"], rel=1e-3)


def test_the_released_recipes_are_for_the_released_models() -> None:
    """Sizes, solvers and tolerances of the profile are those of `build`; updates and rates are the release's."""
    paper = config.check(Sequence, PAPER, "sequence")
    penalties = {
        "wt103": None,
        "wt103-reg": (1.9, 0.35, 0.1, 35_000),
        "wt103-preln-reg": (2.0, 0.4, 0.1, 30_000),
    }
    assert set(paper.methods) == set(penalties)
    for name, penalty in penalties.items():
        size, equilibrium = VARIANTS[name]
        assert paper.model[name].architecture(size.vocabulary) == size, name
        assert paper.model[name].equilibrium() == equilibrium, name
        recipe = paper.train[name]
        assert (recipe.steps, recipe.batch_size, recipe.micro_batch, recipe.length) == (300_000, 56, 14, 150)
        assert (recipe.optim.lr, recipe.optim.warmup, recipe.optim.clip) == (2.5e-4, 16_000, 0.25)
        assert learning_rate(recipe.optim, 150_000, recipe.steps) == pytest.approx(1.25e-4)
        assert recipe.unrolled_updates == 32_000
        found = recipe.jacobian
        assert penalty == (None if found is None else (found.weight, found.chance, found.growth, found.growth_every))
        assert {recipe.plan(1111, step).change for step in range(40_000, 40_050)} == ({-2, -1, 0} if found else {0})
        assert paper.evaluate[name].memory == equilibrium.memory


def test_an_own_text_becomes_generated_text_in_two_commands(
    tracking_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("story.txt").write_text("".join(f"It was the {number}th time that it rained.\n" for number in range(80)))
    small = ["--batch-size", "4", "--max-steps", "2", "--network", "mini", "--steps"]
    main(["train", "--data", "story.txt", "--out", "model", *small, "3"])
    main(["generate", "--checkpoint", "model", "--prompt", "It was", "--length", "5"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("It was")


def test_a_network_to_start_from_reads_the_text_with_its_vocabulary_or_says_what_that_lacks(
    tracking_database: Path,
) -> None:
    text = "It rained, and rained.\n" * 60
    Path("story.txt").write_text(text)
    Path("snow.txt").write_text(text + "It snowed: ☃\n")
    small = ["--batch-size", "4", "--max-steps", "2", "--network", "mini", "--steps"]
    main(["train", "--data", "story.txt", "--out", "first", "--tokens", "characters", *small, "2"])
    begun = ["--start", "first", "--lr", "1e-9", *small, "1"]
    main(["train", "--data", "story.txt", "--out", "second", *begun])
    first, second = (load_tensors(Path(name, "model.safetensors")) for name in ("first", "second"))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    vocabularies = [Path(name, "vocabulary.json").read_bytes() for name in ("first", "second")]
    assert vocabularies[0] == vocabularies[1]
    with pytest.raises(SystemExit, match=r"snow\.txt: .* vocabulary: line 61 has 's', .* byte pairs"):
        main(["train", "--data", "snow.txt", "--out", "third", *begun])
    with pytest.raises(SystemExit, match=r"first/model\.safetensors"):
        main(["train", "--data", "story.txt", "--out", "third", *begun, "--network", "mini-wide"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "stroy.txt"), "stroy.txt: no such file or folder; name a text file"),
        (("--data", "story.txt", "--start", "default", "--tokens", "words"), "tokens: only for a text file"),
        (("--data", "prepared", "--tokens", "words"), "tokens: only for a text file"),
    ],
)
def test_data_that_is_missing_or_has_a_vocabulary_already_is_said(
    options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("story.txt").write_text("It rained.\n" * 60)
    Path("prepared").mkdir()
    with pytest.raises(SystemExit, match=message):
        main(["train", "--out", "model", *options])


@pytest.mark.parametrize("text", ["one line without an end " * 9, "a line\n" * 40, "\n".join("ab" * 50)])
@pytest.mark.parametrize("kind", ["byte_pairs", "characters", "words"])
def test_a_text_file_is_trained_on_but_for_its_last_tenth(text: str, kind: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    found = of_file(tmp_path / "a.txt", TokenChoice().of_kind(kind))
    whole = torch.cat([found.texts["train"], found.texts["valid"]])
    assert found.vocabulary.decode(whole.tolist()).split() == text.split()
    assert len(found.texts["valid"]) == math.ceil(len(whole) / 10)
