"""The model that MLflow serves. MLflow loads it by running this file, so nothing is unpickled.

Predictions are made by the class `Predictor` of the module that the model was registered with, from the weights in the
model's folder `checkpoint`.
"""

import importlib
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Network:
    """Adapter between a predictor of this project and MLflow."""

    def load_context(self, context: Any) -> None:
        """Loads the predictor from the model's folder."""
        module = importlib.import_module(context.model_config["predictor"])
        self.predictor = module.Predictor(Path(context.artifacts["checkpoint"]))

    def predict(self, context, model_input, params=None):  # MLflow would take annotations for the signature
        """Outputs of the predictor, in the form of the model's signature."""
        return self.predictor(model_input, **(params or {}))


class Served(Network, PythonModel):
    """The network as a `PythonModel`. MLflow demands annotations of a `predict` defined in this class, and supports
    them only for tables, so `predict` is inherited."""


set_model(Served())
