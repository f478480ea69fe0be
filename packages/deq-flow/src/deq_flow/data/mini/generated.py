"""Pairs of moving photographs, rendered on demand in any number and without files.

They are more varied than the miniature sets, so that training generalises to real frames: with more and smaller
objects, some of them thin, and in a share of the pairs blur, fog, noise and changing light.
"""

from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from einops import rearrange
from torch.utils.data import Dataset

from deq_flow.data.mini.final_pass import FinalPassConfig, final_pass, random_fog
from deq_flow.data.mini.scenes import Layer, SceneConfig, exact_flow, random_scene, render
from deq_flow.data.samples import FlowSample


@dataclass(frozen=True, kw_only=True)
class GeneratedConfig:
    """Contents of the pairs; each is a function of the seed, the kind of set and its index."""

    seed: int = 0
    height: int = 96
    width: int = 128
    scene: SceneConfig = field(default_factory=SceneConfig)
    thin_share: float = 0.3
    """Share of the objects that are several times as long as wide."""
    rough_share: float = 0.5
    """Share of the pairs with blur, fog, noise and different exposure of the frames, as from a camera."""
    final: FinalPassConfig = field(default_factory=FinalPassConfig)
    """Greatest strength of these effects; a pair gets a random share of each."""
    still_share: float = 0.0
    """Share of the pairs without motion."""
    slow_share: float = 0.0
    """Share of the pairs whose speeds are all multiplied by one factor within `slow`."""
    slow: tuple[float, float] = (0.04, 1.0)
    """Least and greatest factor, drawn log-uniformly; motion may then be less than a pixel."""
    still_background_share: float = 0.0
    """Share of the pairs whose background does not move, as with a camera on a tripod."""

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("height", 16), ("width", 16)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("thin_share", "rough_share", "still_share", "slow_share", "still_background_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 < self.slow[0] <= self.slow[1]:
            raise ValueError(f"slow must be 0 < least <= greatest, got {self.slow}")
        if self.still_share + self.slow_share > 1:
            raise ValueError(f"still_share and slow_share must come to at most 1, got {self}")


class Generated(Dataset[FlowSample]):
    """`count` pairs made of `photographs`, uint8 RGB (h, w, 3) each; sets of different `kind` share no pair.

    A pair is rendered at its first use, and then kept.
    """

    def __init__(self, config: GeneratedConfig, photographs: tuple[np.ndarray, ...], *, kind: int, count: int) -> None:
        self.config = config
        self.photographs = photographs
        self.kind = kind
        self.count = count
        self.rendered: dict[int, FlowSample] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> FlowSample:
        if not 0 <= index < self.count:
            raise IndexError(f"index must be from 0 to {self.count - 1}, got {index}")
        if index not in self.rendered:
            self.rendered[index] = self.render(index)
        return self.rendered[index]

    def render(self, index: int) -> FlowSample:
        """Pair `index`; it depends only on the index, the kind and the configuration."""
        config = self.config
        size = (config.height, config.width)
        rng = np.random.default_rng([config.seed, self.kind, index])
        layers = random_scene(rng, self.photographs, size, config.scene, pace=random_pace(rng, config))
        background, *objects = (thinned(rng, layer, config.thin_share) for layer in layers)
        if rng.uniform() < config.still_background_share:
            background = replace(background, motion=background.motion.at_rest())
        layers = (background, *objects)
        first, second = (render(layers, time, size) for time in (-0.5, 0.5))
        flow, occluded = exact_flow(layers, first, 0.5)
        images = [first.image, second.image]
        if rng.uniform() < config.rough_share:
            effects = weakened(rng, config.final)
            fog = random_fog(rng, effects)
            onwards, _ = exact_flow(layers, second, 1.5)
            images = [
                final_pass(view.image, motion, view.top / len(layers), fog, rng, effects)
                for view, motion in ((first, flow), (second, onwards))
            ]
        return FlowSample(
            *(rearrange(torch.from_numpy(image), "h w c -> c h w").contiguous() for image in images),
            flow=torch.from_numpy(flow),
            valid=torch.ones(size, dtype=torch.bool),
            name=f"generated_{self.kind}_{index:07d}",
            occluded=torch.from_numpy(occluded),
        )


def random_pace(rng: np.random.Generator, config: GeneratedConfig) -> float:
    """Factor of all speeds of a pair: 0, a number within `slow`, or 1."""
    kind, small = rng.uniform(), float(np.exp(rng.uniform(*np.log(config.slow))))
    if kind < config.still_share:
        return 0.0
    return small if kind < config.still_share + config.slow_share else 1.0


def thinned(rng: np.random.Generator, layer: Layer, share: float) -> Layer:
    """The layer, with probability `share` squeezed to the shape of a limb or pole; never the background."""
    if layer.outline is None or rng.uniform() >= share:
        return layer
    amplitude = 0.3 * layer.outline.amplitude
    amplitude[0] = rng.uniform(0.5, 0.75)  # of order 2: length 1 + a, width 1 - a
    return replace(layer, outline=replace(layer.outline, amplitude=amplitude))


def weakened(rng: np.random.Generator, config: FinalPassConfig) -> FinalPassConfig:
    """Each effect at a random share of its strength."""
    return FinalPassConfig(**{part.name: rng.uniform() * getattr(config, part.name) for part in fields(config)})
