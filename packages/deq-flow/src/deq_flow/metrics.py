"""End-point error, and the metrics that benchmarks derive from it.

A prediction of NaN is wrong: it is within no bound, an outlier, and makes the mean error NaN. Metrics of a sample are
over its valid pixels. `sintel_protocol` and `kitti_protocol` average over samples as the benchmarks do.
`released_metrics` are those that the DEQ-Flow release logs in training, which count invalid pixels as perfect.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

MAX_FLOW = 400.0  # pixels; RAFT (Teed and Deng, ECCV 2020) excludes faster ones from its loss and training metrics
OUTLIER_PIXELS = 3.0  # KITTI: an outlier is off by more than 3 pixels
OUTLIER_SHARE = 0.05  # and by more than 5 % of the true motion
SPEEDS = {"s0_10": (0.0, 10.0), "s10_40": (10.0, 40.0), "s40": (40.0, math.inf)}
"""Sintel's classes of true motion: least length, and the length, in pixels, that it stays below."""
SHARES = ("epe", "px1", "px3", "px5")


def epe_map(flow: Tensor, target: Tensor) -> Tensor:
    """End-point error |flow - target| (..., h, w), pixels, of flows (..., 2, h, w)."""
    if flow.shape != target.shape or flow.shape[-3] != 2:
        raise ValueError(
            f"flow and target must both be (..., 2, h, w), got {tuple(flow.shape)} and {tuple(target.shape)}"
        )
    return torch.linalg.vector_norm(flow - target, dim=-3)


def epe(flow: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean end-point error (b,) over the valid pixels (b, h, w) of each sample; NaN for a sample without any."""
    return mean_over(epe_map(flow, target), valid)


def outliers(flow: Tensor, target: Tensor) -> Tensor:
    """bool (..., h, w): off by more than 3 pixels and more than 5 % of the true motion (KITTI 2015), or NaN."""
    error = epe_map(flow, target)
    near = (error <= OUTLIER_PIXELS) | (error <= OUTLIER_SHARE * torch.linalg.vector_norm(target, dim=-3))
    return ~near


def sample_metrics(flow: Tensor, target: Tensor, valid: Tensor) -> dict[str, float]:
    """Metrics of one sample over its valid pixels.

    Args:
        flow: (2, h, w), pixels.
        target: (2, h, w), pixels.
        valid: bool (h, w).

    Returns:
        pixels: number of valid pixels. epe: mean error, pixels. px1, px3, px5: share, 0 to 1, of pixels whose error is
        below 1, 3 and 5 pixels, as in RAFT. f1_all: outliers, percent. All but `pixels` are NaN if it is 0.

    Raises:
        ValueError: the target of a valid pixel is not finite.
    """
    require_truth(target, valid)
    error = epe_map(flow, target)
    values = {
        "epe": error,
        **{f"px{bound}": error < bound for bound in (1, 3, 5)},
        "f1_all": 100.0 * outliers(flow, target),
    }
    means = {name: float(mean_over(value.double(), valid)) for name, value in values.items()}
    return {"pixels": float(valid.sum()), **means}


def regions_of(
    target: Tensor, valid: Tensor, occluded: Tensor | None = None, invalid: Tensor | None = None
) -> dict[str, Tensor]:
    """Regions of a sample with metrics of their own, by name, each bool (h, w) within `valid`.

    s0_10, s10_40, s40: Sintel's classes of the length of the true motion, pixels. unoccluded, occluded: pixels that
    image 2 shows, and those that it does not (Sintel's "matched" and "unmatched", KITTI's "noc" and the rest).
    not_invalid: without the pixels that Sintel's own scoring excludes; the published evaluations of RAFT and DEQ-Flow
    include them. Regions that the data set does not provide are missing.
    """
    speed = torch.linalg.vector_norm(target, dim=0)
    parts = {name: valid & (speed >= least) & (speed < limit) for name, (least, limit) in SPEEDS.items()}
    if occluded is not None:
        parts |= {"unoccluded": valid & ~occluded, "occluded": valid & occluded}
    if invalid is not None:
        parts["not_invalid"] = valid & ~invalid
    return parts


def region_metrics(flow: Tensor, target: Tensor, regions: Mapping[str, Tensor]) -> dict[str, float]:
    """{region.pixels, region.epe, region.f1_all} of one sample for each region that is not empty."""
    error, wrong = epe_map(flow, target).double(), 100.0 * outliers(flow, target).double()
    return {
        f"{name}.{key}": value
        for name, mask in regions.items()
        if mask.any()
        for key, value in (
            ("pixels", float(mask.sum())),
            ("epe", float(mean_over(error, mask))),
            ("f1_all", float(mean_over(wrong, mask))),
        )
    }


def sintel_protocol(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over all valid pixels of all samples, as Sintel is scored.

    Args:
        samples: `pixels` and any others of the `sample_metrics`, the same for every sample.

    Raises:
        ValueError: there is no sample, or one without a valid pixel.
    """
    pixels = [sample["pixels"] for sample in samples]
    total = sum(pixels)
    if not pixels or min(pixels) <= 0:
        raise ValueError(
            f"expected at least one sample, each with a valid pixel, got {len(pixels)} samples, "
            f"{sum(count <= 0 for count in pixels)} of them without; leave those out"
        )
    return {
        name: sum(count * sample[name] for count, sample in zip(pixels, samples, strict=True)) / total
        for name in (*SHARES, "f1_all")
        if name in samples[0]
    }


def kitti_protocol(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metrics as RAFT scores KITTI: `epe` and shares are means of the samples' means, `f1_all` is over all pixels."""
    together = sintel_protocol(samples)
    means = {name: sum(sample[name] for sample in samples) / len(samples) for name in together if name in SHARES}
    return {**together, **means}


def released_metrics(flow: Tensor, target: Tensor, valid: Tensor, *, max_flow: float = MAX_FLOW) -> dict[str, Tensor]:
    """The metrics that DEQ-Flow (Bai et al., CVPR 2022) logs in training: epe, px1, px3, px5, each (b,).

    Pixels that are not valid, or move by `max_flow` or more, count with an error of zero, so every value looks better
    than over valid pixels. Use only to compare with the release's logs.

    Raises:
        ValueError: the target of a valid pixel is not finite.
    """
    require_truth(target, valid)
    error = torch.where(usable(target, valid, max_flow=max_flow), epe_map(flow, target), 0.0)
    shares = {f"px{bound}": (error < bound).to(error.dtype).mean(dim=(1, 2)) for bound in (1, 3, 5)}
    return {"epe": error.mean(dim=(1, 2)), **shares}


def usable(target: Tensor, valid: Tensor, *, max_flow: float = MAX_FLOW) -> Tensor:
    """bool (..., h, w): valid and moving by less than `max_flow` pixels, as in RAFT's loss and training metrics."""
    return valid & (torch.linalg.vector_norm(target, dim=-3) < max_flow)


def require_truth(target: Tensor, valid: Tensor) -> None:
    """Raises ValueError if a target (..., 2, h, w) is not finite at a valid pixel (..., h, w)."""
    unknown = int((valid & ~target.isfinite().all(dim=-3)).sum())
    if unknown:
        raise ValueError(
            f"target: expected finite motion at valid pixels, got {unknown} that are not; mark them as not valid"
        )


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Means (...) of values (..., h, w) over mask (..., h, w), summed in float64; NaN for an empty mask."""
    if mask.dtype != torch.bool or mask.shape != values.shape:
        raise ValueError(f"valid must be bool {tuple(values.shape)}, got {mask.dtype} {tuple(mask.shape)}")
    total = torch.where(mask, values, 0.0).sum(dim=(-2, -1), dtype=torch.float64)
    return (total / mask.sum(dim=(-2, -1))).to(values.dtype)


PROTOCOLS: Mapping[str, Callable[[Sequence[Mapping[str, float]]], dict[str, float]]] = {
    "sintel": sintel_protocol,
    "kitti": kitti_protocol,
}
"""Functions that average the metrics of samples, by the name in a data set."""
