"""Errors of a flow network and of DIS on frames of several sizes, with small, large and no motion.

    python -m benchmarks.flow.frames
    python -m benchmarks.flow.frames --pairs FOLDER          your own pairs, NAME_img1.png and NAME_img2.png
    python -m benchmarks.flow.frames --videos VIDEO ...      frames of videos, one and four apart, at three places each
    python -m benchmarks.flow.frames --data data/flow        end-point error and difference after warping, Sintel-mini
    python -m benchmarks.flow.frames --aloe FOLDER           the same for the stereo pair Aloe, at four widths
    python -m benchmarks.flow.frames --sides 128 288 512     also with frames downscaled to these longer sides
    python -m benchmarks.flow.frames --figure real.svg       pictures of the flow of the network, DIS and ground truth

The tables have the end-point error, in pixels of the frames, for the pair motorcycle of scikit-image (741x500) and
downscaled copies, for photographs of 640x480 with synthetic motion, and for frames without motion, where it is the mean
length of the flow. For pairs and videos without known flow they have the difference, of 255, between the first frame
and the second warped back. It is not an error: at occlusions, the true flow may leave a larger difference than a wrong
one.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from deq_core.experiment.data.images import read_image
from deq_core.experiment.data.photographs import VALIDATION, load_all
from deq_core.experiment.media.video import frames
from deq_core.experiment.study.plotting import save
from deq_core.experiment.tables import markdown
from deq_flow.data.batches import FlowBatch
from deq_flow.data.samples import FlowSample
from deq_flow.demo.follow import enlarged, reduced
from deq_flow.demo.run import DemoConfig
from deq_flow.demo.warped import warped_error
from deq_flow.evaluation.baselines import Baseline, dis
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.inference import Estimator
from deq_flow.metrics import epe
from deq_flow.models.scales import resized
from deq_flow.networks import load
from deq_flow.reports.compared import compared

HEIGHT, WIDTH = 480, 640
Flow = Callable[[Tensor, Tensor], Tensor]
"""The flow (2, h, w) between two frames, uint8 (3, h, w)."""
Pair = tuple[Tensor, Tensor]
"""Two frames, uint8 (3, h, w)."""
SPEEDS = (3, 15, 40, 60, 100)
"""Motion of a photograph, pixels."""
APART = (1, 4)
"""Distances of the frames of a pair in a video."""


def motorcycle() -> FlowSample:
    """The stereo pair of scikit-image, with its disparity as flow to the left."""
    left, right, disparity = skimage.data.stereo_motorcycle()
    valid = np.isfinite(disparity)
    flow = np.stack([np.where(valid, -disparity, 0), np.zeros_like(disparity)]).astype(np.float32)
    return FlowSample(planes(left), planes(right), torch.from_numpy(flow), torch.from_numpy(valid), "motorcycle")


def aloe(folder: Path) -> FlowSample:
    """The stereo pair Aloe (Middlebury 2006) of OpenCV's examples, with its disparity as flow, unknown where 0."""
    left, right = (read_image(folder / f"aloe{side}.jpg") for side in "LR")
    disparity = read_image(folder / "aloeGT.png")[0].float()
    return FlowSample(left, right, torch.stack([-disparity, torch.zeros_like(disparity)]), disparity > 0, "aloe")


def moved(photograph: np.ndarray, speed: float, rng: np.random.Generator) -> FlowSample:
    """Two views of a photograph (h, w, 3), the second rotated by up to 2 degrees, zoomed by up to 2 % and shifted."""
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
    return FlowSample(planes(views[0]), planes(views[1]), torch.from_numpy(flow).float(), valid, "moved")


def planes(image: np.ndarray) -> Tensor:
    """(h, w, 3) as (3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def reduced_pair(pair: FlowSample, width: int) -> FlowSample:
    """The pair at another width; flow is that of the nearest pixel, since it is not known everywhere."""
    height = round(width * pair.flow.shape[1] / pair.flow.shape[2])
    first, second = (resized(image[None], (height, width))[0].round().byte() for image in (pair.image1, pair.image2))
    flow, valid = (F.interpolate(part[None].float(), (height, width))[0] for part in (pair.flow, pair.valid[None]))
    return FlowSample(first, second, flow * width / pair.flow.shape[2], valid[0] > 0, pair.name)


def still(photograph: np.ndarray) -> FlowSample:
    """A pair of the same photograph of 640x480."""
    image = planes(cv2.resize(photograph, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    nothing = torch.zeros(2, HEIGHT, WIDTH)
    return FlowSample(image, image, nothing, torch.ones(HEIGHT, WIDTH, dtype=torch.bool), "still")


def own_pairs(folder: Path) -> dict[str, list[Pair]]:
    """The pairs of a folder, by name."""
    names = sorted(path for path in folder.iterdir() if path.stem.endswith("_img1"))
    if not names:
        raise SystemExit(f"{folder}: expected pairs such as NAME_img1.png and NAME_img2.png, got none")
    beside = [path.with_name(path.name.replace("_img1", "_img2")) for path in names]
    return {
        first.stem.removesuffix("_img1"): [(read_image(first), read_image(second))]
        for first, second in zip(names, beside, strict=True)
    }


def video_pairs(path: Path) -> dict[str, list[Pair]]:
    """Frames of a video that are one and four apart, in the middle of each third of it."""
    count = sum(1 for _ in frames(path))
    starts = [(2 * third + 1) * count // 6 for third in range(3)]
    if max(starts) + max(APART) >= count:
        raise SystemExit(f"{path}: expected a video of 25 frames or more, got {count}")
    wanted = {start + gap for start in starts for gap in (0, *APART)}
    kept = {number: frame for number, frame in enumerate(frames(path)) if number in wanted}
    return {f"{path.stem}, {gap} apart": [(kept[start], kept[start + gap]) for start in starts] for gap in APART}


def error(flow: Flow, pairs: Iterable[FlowSample]) -> float:
    """Mean end-point error over the pairs, pixels."""
    errors = [epe(flow(pair.image1, pair.image2)[None], pair.flow[None], pair.valid[None]) for pair in pairs]
    return float(torch.cat(errors).mean())


def left(flow: Flow, pairs: Iterable[Pair]) -> str:
    """Mean difference after warping over the pairs, of 255."""
    return f"{fmean(warped_error(*pair, flow(*pair)) for pair in pairs):.2f}"


def known(methods: dict[str, Flow], sets: Mapping[str, Sequence[FlowSample]]) -> str:
    """Table of the errors of methods, and of differences after warping by them, and by the true flow if it is dense."""
    whole = all(sample.valid.all() for samples in sets.values() for sample in samples)
    rows = {name: [name] for name in ([*methods, "true flow"] if whole else methods)}
    for samples in sets.values():
        flows = {name: [flow(one.image1, one.image2) for one in samples] for name, flow in methods.items()}
        flows["true flow"] = [one.flow for one in samples]
        for name, row in rows.items():
            found = list(zip(samples, flows[name], strict=True))
            wrong = fmean(epe(flow[None], one.flow[None], one.valid[None]).item() for one, flow in found)
            rest = fmean(warped_error(one.image1, one.image2, flow) for one, flow in found)
            row += [f"{wrong:.3g}", f"{rest:.2f}"]
    columns = [column for name in sets for column in (f"{name}, EPE", "left after warping")]
    return markdown(["", *columns], list(rows.values()))


def at(side: int | None, estimate: Estimator) -> Flow:
    """The network's flow on frames downscaled to `side` pixels; None keeps their size."""

    def flow(image1: Tensor, image2: Tensor) -> Tensor:
        if side is None:
            return estimate(image1[None], image2[None]).flow[0]
        return enlarged(estimate(reduced(image1, side)[None], reduced(image2, side)[None]).flow[0], image1)

    return flow


def peer(baseline: Baseline) -> Flow:
    """OpenCV's DIS on the original frames."""
    method = dis(baseline)

    def flow(image1: Tensor, image2: Tensor) -> Tensor:
        nothing = torch.zeros(1, 2, *image1.shape[1:])
        return method(FlowBatch(image1[None].float(), image2[None].float(), nothing, nothing[:, 0] == 0)).flow[0]

    return flow


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--sides", type=int, nargs="*", default=[])
    parser.add_argument("--widths", type=int, nargs="*", default=[185, 370, 741], help="of the motorcycle")
    parser.add_argument("--speeds", type=float, nargs="*", default=SPEEDS)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--videos", type=Path, nargs="+")
    parser.add_argument("--aloe", type=Path, metavar="FOLDER", help="of OpenCV's examples, with aloeL.jpg")
    parser.add_argument("--data", type=Path, help="folder of the mini profile's data, as data/flow")
    parser.add_argument("--figure", type=Path, help=".svg or .png: the motorcycle as it comes")
    options = parser.parse_args(arguments)
    network, how = load(options.checkpoint), DemoConfig().inference()
    estimate = Estimator(network, how)
    rough = {}
    if network.scales is not None and network.scales.refine:
        unrefined = replace(how, scales=replace(network.scales, refine=0))
        rough = {"without refinement": at(None, Estimator(network, unrefined))}
    methods: dict[str, Flow] = {
        "no flow": lambda first, second: torch.zeros(2, *first.shape[1:]),
        "DIS": peer(Baseline(preset="medium")),
        "DIS, finest": peer(Baseline(preset="medium", finest_scale=0)),
        **{f"{side}": at(side, estimate) for side in options.sides},
        **rough,
        "as they are": at(None, estimate),
    }
    if options.figure is not None:
        shown = {
            "DIS as shipped": methods["DIS"],
            "DIS, finest": methods["DIS, finest"],
            "network": methods["as they are"],
        }
        pair = motorcycle()
        flows = {name: flow(pair.image1, pair.image2) for name, flow in shown.items()}
        drawn = compared(pair.image1, pair.image2, pair.flow, pair.valid, flows, width=11.0)
        save(drawn, options.figure, dpi=110)
        return
    if options.data is not None:
        sets = labelled_sets(options.data, ("sintel_clean", "sintel_final"))
        print(known(methods, {name: [pairs[index] for index in range(len(pairs))] for name, pairs in sets.items()}))
        return
    if options.aloe is not None:
        pair = aloe(options.aloe)
        print(known(methods, {f"aloe, {width}": [reduced_pair(pair, width)] for width in (160, 320, 641, 1282)}))
        return
    if options.pairs is not None or options.videos is not None:
        own = own_pairs(options.pairs) if options.pairs is not None else {}
        for video in options.videos or ():
            own |= video_pairs(video)
        rows = [[name, *(left(flow, pairs) for flow in methods.values())] for name, pairs in own.items()]
        print(markdown(["left after warping", *methods], rows))
        return
    sets = {f"motorcycle, {width}": [reduced_pair(motorcycle(), width)] for width in options.widths}
    for speed in options.speeds:
        rng = np.random.default_rng(0)
        sets[f"moved by {speed:g}"] = [moved(photograph, speed, rng) for photograph in load_all(VALIDATION)]
    sets["still"] = [still(photograph) for photograph in load_all(VALIDATION)]
    rows = [[name, *(f"{error(flow, pairs):.3g}" for pairs in sets.values())] for name, flow in methods.items()]
    print(markdown(["EPE, px", *sets], rows))


if __name__ == "__main__":
    main()
