"""Path independence of language models: the study's problem is the model's own, and its stage leads to a page."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.jobs import run
from tests.sequence.recipes import PROFILE
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.files import write_json
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.paths import Followed
from deq_core.experiment.study.report import Results
from deq_core.experiment.study.stage import Section
from deq_sequence import build, save
from deq_sequence.data import tokens as stored
from deq_sequence.evaluate import read
from deq_sequence.reports.paths import REPORT
from deq_sequence.studies.paths import PATHS, PathStudy, SequencePaths, problems

CONFIG = SequencePaths(
    text="characters",
    split="valid",
    length=8,
    memory=6,
    evaluations=40,
    solvers={"plain": deq.FixedPointIteration()},
    tolerances=(0.1, 1e-3),
    samples=4,
    batch_size=2,
    arnoldi=4,
)


@torch.no_grad()
def test_a_contracting_model_says_the_same_from_every_start_and_what_it_says_itself() -> None:
    model = small(memory=6, solver=deq.FixedPointIteration(), stop=deq.Stop(40, tol=1e-9))
    text = some_tokens(batch=1, length=60)[0]
    found = Followed(CONFIG)
    each = list(problems(model, text, CONFIG))
    assert len(each) == 2, "segments of two rows each"
    for problem in each:
        found.add(problem)
    summary = found.summary()
    assert summary["samples"] == 4
    assert summary["contracting"] == 1
    assert summary["plain.state.0.001"] == 1
    assert max(summary[f"plain.{name}"] for name in ("change", "random", "other")) < 1e-6
    own = [
        output.losses.mean() for _, _, output in read(model, text, length=8, batch_size=2) if output.losses is not None
    ]
    assert summary["plain.error_twice"] == pytest.approx(float(sum(own[:2])) / 2, rel=1e-6)


def test_the_stage_leads_to_a_page_and_refuses_an_unrolled_model(data: Path, tmp_path: Path) -> None:
    vocabulary = stored.read(data / "characters").vocabulary
    for name, steps in (("deq-0", None), ("unrolled-0", 2)):
        model = build("mini", vocabulary=len(vocabulary), memory=6, steps=steps)
        save(tmp_path / "train" / name / "model.safetensors", model, vocabulary)
    short = replace(CONFIG, evaluations=2)
    study = replace(PROFILE, paths=PathStudy(methods=("deq",), measure={"deq": short}))
    out = tmp_path / "paths" / "deq-0"
    run(PATHS, Measured("deq", 0), short, out, data=data, model=tmp_path / "train" / "deq-0")
    write_json(tmp_path / "params.yaml", config.plain({"sequence": study}))  # JSON is YAML
    told = REPORT.page(Section(tmp_path / "params.yaml", "sequence"), Results(tmp_path, "sequence"))
    assert "| deq | valid (4) | plain | " in told.parts[3]
    assert "every part" not in told.parts[6], "a state of one part has no other residual"
    with pytest.raises(CheckpointError, match="expected an equilibrium model, got one of 2 steps"):
        run(PATHS, Measured("unrolled", 0), short, out, data=data, model=tmp_path / "train" / "unrolled-0")
