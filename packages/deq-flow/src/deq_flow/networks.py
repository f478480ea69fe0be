"""Networks from the pipeline's configuration, fresh or trained."""

from pathlib import Path

from deq_core.experiment import checkpoint, config
from deq_flow.models import RAFT, DEQFlow, build
from deq_flow.params import EquilibriumModel, Model

Network = DEQFlow | RAFT


def build_network(model: Model) -> Network:
    """A freshly initialised network, with the solver and gradient of its training."""
    if isinstance(model, EquilibriumModel):
        layer = model.layer.build()
        return build(
            model.name,
            solver=layer.solver,
            stop=layer.stop,
            eval_stop=layer.eval_stop,
            adjoint=layer.adjoint,
            correction=model.correction,
            chaining=model.chaining,
            flow_gradient=model.flow_gradient,
        )
    return build(model.name, steps=model.steps)


def load_network(folder: Path) -> Network:
    """The trained network in `folder`, in evaluation mode, from its model.safetensors and config.json alone."""
    path = folder / "model.safetensors"
    model: Model = config.load(Model, folder / "config.json")
    network = build_network(model)
    checkpoint.load_into(network, checkpoint.load_tensors(path), source=str(path))
    return network.eval()
