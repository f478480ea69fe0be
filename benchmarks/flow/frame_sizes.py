"""The size of frames that a flow network is good for: its error on frames reduced to several sizes.

    python -m benchmarks.flow.frame_sizes

The pair motorcycle as it comes with scikit-image, 741x500, and photographs of 640x480 moved by computer. A network sees
the frames reduced along their longer side, as in `deq-flow demo`, and its flow is measured in the frames' own pixels.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data
import torch
from torch import Tensor

from deq_core.experiment.data.photographs import VALIDATION, load_all
from deq_core.experiment.tables import markdown
from deq_flow.demo.follow import enlarged, reduced
from deq_flow.demo.run import DemoConfig
from deq_flow.inference import Estimator
from deq_flow.metrics import epe
from deq_flow.networks import load

HEIGHT, WIDTH = 480, 640
SPEEDS = (3, 15, 40, 60)
"""Pixels that a photograph moves."""


@dataclass(frozen=True)
class Moved:
    """Two frames, uint8 (3, h, w), and their flow (2, h, w), known where valid (h, w)."""

    image1: Tensor
    image2: Tensor
    flow: Tensor
    valid: Tensor


def motorcycle() -> Moved:
    """The stereo pair of scikit-image: its disparity as flow to the left."""
    left, right, disparity = skimage.data.stereo_motorcycle()
    valid = np.isfinite(disparity)
    flow = np.stack([np.where(valid, -disparity, 0), np.zeros_like(disparity)]).astype(np.float32)
    return Moved(planes(left), planes(right), torch.from_numpy(flow), torch.from_numpy(valid))


def moved(photograph: np.ndarray, speed: float, rng: np.random.Generator) -> Moved:
    """Two views of a photograph (h, w, 3): the second turned by up to 2 degrees, zoomed by up to 2 % and moved."""
    wide = cv2.resize(photograph, (3 * WIDTH // 2, 3 * HEIGHT // 2), interpolation=cv2.INTER_CUBIC)
    angle, direction = np.deg2rad(rng.uniform(-2, 2)), rng.uniform(0, 2 * np.pi)
    turn = (1 + rng.uniform(-0.02, 0.02)) * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([WIDTH / 2, HEIGHT / 2])
    motion = np.column_stack([turn, middle - turn @ middle + speed * np.array([np.cos(direction), np.sin(direction)])])
    corner = np.array([[1, 0, WIDTH / 4], [0, 1, HEIGHT / 4], [0, 0, 1]])
    views = [
        cv2.warpAffine(wide, (corner @ back)[:2], (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for back in (np.eye(3), np.linalg.inv(np.vstack([motion, [0, 0, 1]])))
    ]
    y, x = np.indices((HEIGHT, WIDTH), dtype=np.float64)
    flow = np.tensordot(motion, np.stack([x, y, np.ones_like(x)]), axes=1) - np.stack([x, y])
    valid = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    return Moved(planes(views[0]), planes(views[1]), torch.from_numpy(flow).float(), valid)


def planes(image: np.ndarray) -> Tensor:
    """(h, w, 3) as (3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def error(flow: Callable[[Moved], Tensor], pairs: Sequence[Moved]) -> float:
    """Mean end-point error over the pairs, pixels."""
    errors = [epe(flow(pair)[None], pair.flow[None], pair.valid[None]) for pair in pairs]
    return float(torch.cat(errors).mean())


def at(side: int, estimate: Estimator) -> Callable[[Moved], Tensor]:
    """The network's flow on frames of at most `side` pixels."""
    return lambda pair: enlarged(
        estimate(reduced(pair.image1, side)[None], reduced(pair.image2, side)[None]).flow[0], pair.image1
    )


def dis(pair: Moved) -> Tensor:
    """OpenCV's DIS on the whole frames, preset medium."""
    grey = [cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for image in (pair.image1, pair.image2)]
    matcher = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = matcher.calc(*grey, None)  # pyright: ignore[reportCallIssue, reportArgumentType]  # None starts from no motion
    return torch.from_numpy(flow).permute(2, 0, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 192, 256, 288, 320, 384, 512, 741])
    parser.add_argument("--speeds", type=float, nargs="+", default=SPEEDS)
    options = parser.parse_args(arguments)
    estimate = Estimator(load(options.checkpoint), DemoConfig().inference())
    sets = {"motorcycle": [motorcycle()]}
    for speed in options.speeds:
        rng = np.random.default_rng(0)
        sets[f"moved by {speed:g}"] = [moved(photograph, speed, rng) for photograph in load_all(VALIDATION)]
    methods: dict[str, Callable[[Moved], Tensor]] = {"no flow": lambda pair: torch.zeros_like(pair.flow), "DIS": dis}
    methods |= {f"{side}": at(side, estimate) for side in options.sides}
    rows = [[name, *(f"{error(method, pairs):.2f}" for pairs in sets.values())] for name, method in methods.items()]
    print(markdown(["longer side", *sets], rows))


if __name__ == "__main__":
    main()
