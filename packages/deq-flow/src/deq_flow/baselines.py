"""Flow without learning: zero flow, and OpenCV's DIS as the peer one gets off the shelf."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from deq_core.experiment.data.released import located
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, write_rows
from deq_core.experiment.tracking.run import Log
from deq_flow.data.batches import FlowBatch
from deq_flow.evaluate import Evaluation, Method, Prediction, evaluate, flat, labelled_sets, summary
from deq_flow.params import Baseline, Evaluate

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def evaluate_baselines(
    peers: Mapping[str, Baseline], config: Evaluate, *, data: Path, out: Path, log: Log
) -> dict[str, float]:
    """Measures zero flow and the configured peers; writes samples.csv and metrics.json to `out`."""
    sets = labelled_sets(located(data), config.sets)
    methods: dict[str, Method] = {"zero": zero, **{name: dis(peer) for name, peer in peers.items()}}
    found = {name: Evaluation() for name in methods}
    metrics: dict[str, dict[str, dict[str, float]]] = {}

    def rows() -> list[Row]:
        return [{"method": name, **row} for name, measured in found.items() for row in measured.samples]

    with rescued(out, lambda folder: tables({"samples": rows()})(folder)):
        for name, method in methods.items():
            evaluate(method, sets, batch_size=config.batch_size, found=found[name])
            metrics[name] = summary(found[name].samples)
            log({f"{name}.{key}": value for key, value in flat(metrics[name]).items()})
    with output_directory(out) as partial:
        write_rows(partial / "samples.csv", rows())
        write_json(partial / "metrics.json", metrics)
    return {f"{name}.sintel_clean.epe": values["sintel_clean"]["epe"] for name, values in metrics.items()}


def zero(batch: FlowBatch) -> Prediction:
    """Predicts that nothing moves; its error is the mean magnitude of the true flow."""
    return Prediction(torch.zeros_like(batch.flow))


def dis(config: Baseline) -> Method:
    """Dense inverse search (Kroeger et al., ECCV 2016) on the grey images, as OpenCV implements it."""
    matcher = cv2.DISOpticalFlow.create(PRESETS[config.preset])
    if config.finest_scale is not None:
        matcher.setFinestScale(config.finest_scale)

    def predict(batch: FlowBatch) -> Prediction:
        flows = []
        for image1, image2 in zip(grey(batch.image1), grey(batch.image2), strict=True):
            # None starts from no motion as a user would; OpenCV's stubs do not know of it
            flow = matcher.calc(image1, image2, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
            flows.append(torch.from_numpy(flow).permute(2, 0, 1))
        return Prediction(torch.stack(flows))

    return predict


def grey(images: torch.Tensor) -> list[np.ndarray]:
    """uint8 (H, W) luminance of each RGB image of a batch (B, 3, H, W) in 0..255."""
    return [
        cv2.cvtColor(image.permute(1, 2, 0).round().to(torch.uint8).numpy(), cv2.COLOR_RGB2GRAY) for image in images
    ]
