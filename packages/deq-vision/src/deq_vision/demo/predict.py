"""A network as an MLflow model, from images to classes, masks or boxes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from deq_core.experiment.tracking.models import Array, Interface
from deq_vision.demo.label_space import TaskName, label_space_of
from deq_vision.demo.viewer import Viewer
from deq_vision.finite import require_finite
from deq_vision.models.build import load
from deq_vision.models.mdeq import MDEQ

OUTPUTS: Mapping[TaskName, Mapping[str, Array]] = {
    "classify": {"class": ("int64", (-1,)), "probabilities": ("float32", (-1, -1))},
    "segment": {"mask": ("int64", (-1, -1, -1))},
    "detect": {
        "boxes": ("float32", (-1, 4)),
        "scores": ("float32", (-1,)),
        "classes": ("int64", (-1,)),
        "image": ("int64", (-1,)),
    },
}
"""Classes of images (b,) with probabilities (b, classes); classes of pixels (b, h, w); or the boxes of all images,
left, top, right, bottom in pixels, each with the index of its image."""


def interface_of(model: MDEQ) -> Interface:
    """The signature: from `images`, uint8 (b, 3, h, w), to the outputs of the model's task in `OUTPUTS`."""
    return Interface(
        inputs={"images": ("uint8", (-1, 3, -1, -1))},
        outputs=OUTPUTS[label_space_of(model).task],
        example={"images": np.full((1, 3, 64, 64), 127, np.uint8)},
        params={"side": 0, "least_score": 0.3},
    )


class Predictor:
    """Runs the network in a folder with model.safetensors and config.json."""

    def __init__(self, folder: Path):
        model = load(folder)
        self.viewer = Viewer(model, label_space_of(model))

    @torch.no_grad()
    def __call__(
        self, inputs: Mapping[str, np.ndarray], side: int = 0, least_score: float = 0.3
    ) -> dict[str, np.ndarray]:
        """Outputs as in `interface_of`; `side` is the longer side of downscaled images, `least_score` that of boxes."""
        viewer = replace(self.viewer, side=side or None, least_score=least_score)
        outputs, images = OUTPUTS[viewer.label_space.task], np.asarray(inputs["images"], np.uint8)
        if not len(images):
            return {name: np.zeros([max(0, one) for one in shape], kind) for name, (kind, shape) in outputs.items()}
        found: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
        for number, image in enumerate(images):
            frame = torch.from_numpy(image)
            prepared = viewer.prepare(frame)
            output = viewer.model(prepared)
            require_finite(output.logits, output.solution.residual, [f"image {number}"])
            match viewer.label_space.task:
                case "classify":
                    values = viewer.probabilities(output.logits).numpy()
                    found["class"].append(np.array([values.argmax()]))
                    found["probabilities"].append(values[None])
                case "segment":
                    found["mask"].append(viewer.classes(output.logits, prepared, frame).numpy()[None])
                case "detect":
                    seen = viewer.detections(output.logits, prepared, frame)
                    for name in ("boxes", "scores", "classes"):
                        found[name].append(getattr(seen, name).numpy())
                    found["image"].append(np.full(len(seen.boxes), number))
        return {name: np.concatenate(arrays) for name, arrays in found.items()}
