"""Flow without learning: zero flow, and OpenCV's DIS as the peer one gets off the shelf."""

from dataclasses import dataclass
from typing import Literal

import cv2
import torch
from einops import rearrange

from deq_flow.data.batches import FlowBatch
from deq_flow.evaluation.evaluate import Method, Prediction
from deq_flow.models.refinement import grey

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """OpenCV's DIS flow (Kroeger et al., ECCV 2016), the off-the-shelf peer."""

    preset: Literal["ultrafast", "fast", "medium"]
    finest_scale: int | None = None
    """Finest level of the pyramid that is solved, 0 being full resolution; None keeps the preset's."""


def zero(batch: FlowBatch) -> Prediction:
    """Predicts that nothing moves; its error is the mean magnitude of the true flow."""
    return Prediction(torch.zeros_like(batch.flow))


def dis(config: Baseline) -> Method:
    """Dense inverse search (Kroeger et al., ECCV 2016) on the grey images, as OpenCV implements it."""

    def predict(batch: FlowBatch) -> Prediction:
        flows = []
        for image1, image2 in zip(grey(batch.image1), grey(batch.image2), strict=True):
            # one a pair: small images change its settings for good
            matcher = cv2.DISOpticalFlow.create(PRESETS[config.preset])
            if config.finest_scale is not None:
                matcher.setFinestScale(config.finest_scale)
            # None starts from no motion as a user would; OpenCV's stubs do not know of it
            flow = matcher.calc(image1, image2, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
            flows.append(rearrange(torch.from_numpy(flow), "h w xy -> xy h w"))
        return Prediction(torch.stack(flows))

    return predict
