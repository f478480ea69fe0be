"""Baselines without learning: zero flow, and OpenCV's DIS."""

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
    """OpenCV's DIS flow (Kroeger et al., ECCV 2016)."""

    preset: Literal["ultrafast", "fast", "medium"]
    finest_scale: int | None = None
    """Finest pyramid level that is solved; 0 is full resolution, None is the preset's."""


def zero(batch: FlowBatch) -> Prediction:
    """Predicts zero flow; its error is the mean magnitude of the true flow."""
    return Prediction(torch.zeros_like(batch.flow))


def dis(config: Baseline) -> Method:
    """OpenCV's dense inverse search on the grey images."""

    def predict(batch: FlowBatch) -> Prediction:
        flows = []
        for image1, image2 in zip(grey(batch.image1), grey(batch.image2), strict=True):
            # a new one for each pair, because small images change its settings permanently
            matcher = cv2.DISOpticalFlow.create(PRESETS[config.preset])
            if config.finest_scale is not None:
                matcher.setFinestScale(config.finest_scale)
            # None starts from zero flow, the default; OpenCV's stubs lack it
            flow = matcher.calc(image1, image2, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
            flows.append(rearrange(torch.from_numpy(flow), "h w xy -> xy h w"))
        return Prediction(torch.stack(flows))

    return predict
