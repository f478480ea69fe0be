"""A network of one's own from nothing, without a params.yaml: by options, or by a file that was a template."""

import json
from pathlib import Path

import pytest
from tests.flow.test_fine_tune import same_weights, write_pairs

from deq_core.experiment import config
from deq_core.experiment.options import Options
from deq_flow import load
from deq_flow.cli import main
from deq_flow.commands.training import RECIPE, laid_over
from deq_flow.models import RAFT
from deq_flow.params import EquilibriumModel, Training, UnrolledModel

SMALL = ["--steps", "2", "--batch-size", "2", "--crop", "32", "32", "--max-steps", "2"]


def test_options_train_without_a_file_as_a_template_does_with_one(
    tracking_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(Path("pairs"), 5)
    main(["train", "--data", "pairs", "--out", "plain", *SMALL])
    capsys.readouterr()
    main(["train", "--template"])
    Path("mine.yaml").write_text(capsys.readouterr().out)
    main(["train", "--params", "mine.yaml", "--data", "pairs", "--out", "by-file", *SMALL])
    assert same_weights(Path("plain"), Path("by-file"))
    assert json.loads(Path("plain/metrics.json").read_text())["val_epe"] > 0
    main(["train", "--data", "pairs", "--out", "unrolled", *SMALL, "--network", "raft-mini"])
    assert isinstance(load("unrolled"), RAFT)


def test_options_of_network_and_set_reach_their_keys() -> None:
    whole = config.load(Training, RECIPE)
    model, recipe = laid_over(whole, Options(network="deq-flow-tiny", solver="anderson"), "chairs", (48, 64))
    assert isinstance(model, EquilibriumModel)
    assert (model.name, model.layer.solver.kind) == ("deq-flow-tiny", "anderson")
    assert (recipe.mix[0].data, recipe.mix[0].augment.crop) == ("chairs", (48, 64))
    assert laid_over(whole, Options(), None, None) == (whole.model, whole.train)
    unrolled, plain = laid_over(whole, Options(network="raft", max_steps=3), None, None)
    assert isinstance(unrolled, UnrolledModel)
    assert (unrolled.name, unrolled.steps, plain.stabilise) == ("raft", 3, None)


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (Options(network="deq-flow-nano"), None, "network: expected one of deq-flow-tiny, .*, got 'deq-flow-nano'"),
        (Options(network="raft", adjoint="phantom"), None, "--adjoint: raft is unrolled"),
        (Options(), "sintel", "options: data: expected one of chairs, .*, got 'sintel'"),
    ],
)
def test_what_there_is_not_is_said(change: Options, name: str | None, message: str) -> None:
    with pytest.raises(config.ConfigError, match=message):
        laid_over(config.load(Training, RECIPE), change, name, None)
