"""The command of the study of reuse, a stage of the pipeline."""

from pathlib import Path

from deq_core.experiment import config
from deq_core.experiment.commands import PARAMS, finish
from deq_core.experiment.tracking.run import track
from deq_flow.inference_params import Reuse
from deq_flow.params import Flow
from deq_flow.reuse import reuse_network


def reuse(model: Path, data: Path, out: Path, params: Path = PARAMS, section: str = "flow") -> None:
    """Compares cold, warm and reused starts of the trained network in the folder `model` on embedded videos."""
    config.check(Flow, params, section)
    settings = config.load(Reuse, params, f"{section}.reuse")
    with track("flow.reuse", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(reuse_network(model, settings, data=data, out=out, log=log))
