"""A network as an MLflow model: images in, flow out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from deq_core.experiment.tracking.models import Interface
from deq_flow.finite import require_finite
from deq_flow.inference import Estimator
from deq_flow.networks import load

IMAGES = ("float32", (-1, 3, -1, -1))
INTERFACE = Interface(
    inputs={"image1": IMAGES, "image2": IMAGES},
    outputs={"flow": ("float32", (-1, 2, -1, -1))},
    example={name: np.full((1, 3, 64, 64), 127, np.float32) for name in ("image1", "image2")},
)
"""Images (b, 3, h, w) of values 0 to 255, and flow (b, 2, h, w) in pixels from the first to the second."""


class Predictor:
    """The network in a folder of model.safetensors and config.json, with its own options of inference."""

    def __init__(self, folder: Path):
        self.estimate = Estimator(load(folder))

    def __call__(self, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `INTERFACE`; raises NonFiniteError if the flow of a pair is not finite."""
        first, second = (torch.from_numpy(np.asarray(images[name], np.float32)) for name in ("image1", "image2"))
        if not len(first) and not len(second):
            return {"flow": np.zeros((0, 2, *first.shape[2:]), np.float32)}
        flow = self.estimate(first, second).flow.cpu()
        for number, one in enumerate(flow):
            require_finite(one, f"pair {number}")
        return {"flow": flow.numpy()}
