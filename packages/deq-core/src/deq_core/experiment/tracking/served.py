"""The model that MLflow serves. It loads a model by running this file, so nothing is unpickled.

What predicts is the class `Predictor` of the module that the model was registered with; its weights are the safetensors
file of the model's folder `checkpoint`.
"""

import importlib
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Network:
    """A network of this project, as MLflow calls it."""

    def load_context(self, context: Any) -> None:
        """Reads the network of the model's folder."""
        module = importlib.import_module(context.model_config["predictor"])
        self.predictor = module.Predictor(Path(context.artifacts["checkpoint"]))

    def predict(self, context, model_input, params=None):  # annotations would be taken for the signature
        """What the predictor gives for some inputs, as the model's signature has them."""
        return self.predictor(model_input, **(params or {}))


class Served(Network, PythonModel):
    """The network under MLflow's name. A `predict` of this class's own would be asked for annotations, which MLflow has
    for tables alone."""


set_model(Served())
