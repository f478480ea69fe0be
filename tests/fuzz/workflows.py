"""Readers of files that the pipelines and the programs keep beside their results."""

import json
from pathlib import Path

from tests.fuzz.core import content
from tests.fuzz.reader import Reader

from deq_core.experiment.download import kept
from deq_core.experiment.outputs import written
from workflows.engines import parameters
from workflows.profile import profile, text

URL = "https://example.org/set.zip"


def write_params(folder: Path) -> Path:
    path = folder / "params.yaml"
    path.write_text(text(profile("mini")))
    return path


READERS = (
    Reader("workflows/params.yaml", write_params, parameters.load, (parameters.ParameterError,)),
    Reader(
        "workflows/record.json",
        content(written.RECORD, json.dumps({"deq-flow train": {"model.safetensors": "0a" * 32}})),
        lambda path: written.recorded(path.parent),
        (),
    ),
    Reader(
        "workflows/set.zip.version",
        content("set.zip.version", f'{URL}\n"0a0a"\n'),
        lambda path: kept.version_of(path.with_name("set.zip"), URL),
        (),
    ),
)
