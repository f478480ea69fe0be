"""Writes clutter digits in the binary format of CIFAR-10. The same configuration always gives the same bytes."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from tqdm import tqdm

from deq_core.experiment.data import photographs
from deq_core.experiment.data.images import one_thread
from deq_core.experiment.data.manifest import write_manifest
from deq_core.experiment.files import output_directory, write_text
from deq_vision.data.mini import digits
from deq_vision.data.mini.digits import DigitsConfig, Glyphs, clutter_digit
from deq_vision.data.sets import cifar


@dataclass(frozen=True, kw_only=True)
class MiniDigitsConfig:
    """Settings of the clutter digits."""

    seed: int = 0
    train: int = 8000
    """Number of training images, distributed over the five files of the release."""
    val: int = 600
    """Number of validation images, in val_batch.bin, which the release does not have."""
    test: int = 1000
    digits: DigitsConfig = field(default_factory=DigitsConfig)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.train < len(cifar.FILES["train"]) or min(self.val, self.test) < 1:
            raise ValueError(
                f"train must be at least {len(cifar.FILES['train'])}, val and test at least 1, "
                f"got {self.train}, {self.val} and {self.test}"
            )


def write_digits(root: Path, config: MiniDigitsConfig) -> None:
    """Writes cifar-10-batches-bin and manifest.json to `root`.

    `root` appears, or is replaced, when everything is written. The manifest lists size and SHA-256 of every file.

    Raises:
        OutputError: `root` cannot be written.
    """
    parts = (
        ("train", config.train, digits.TRAINING, photographs.TRAINING),
        ("val", config.val, digits.VALIDATION, photographs.VALIDATION),
        ("test", config.test, digits.TEST, photographs.TEST),
    )
    total = config.train + config.val + config.test
    with (
        one_thread(),
        output_directory(root) as partial,
        tqdm(total=total, desc="clutter digits", unit="image", disable=None) as progress,
    ):
        folder = partial / cifar.FOLDER
        for kind, (split, count, glyphs, names) in enumerate(parts):
            pictures, scans = photographs.load_all(names), Glyphs.load(glyphs)
            places = np.array_split(np.arange(count), len(cifar.FILES[split]))
            for name, indices in zip(cifar.FILES[split], places, strict=True):
                images, labels = [], []
                for index in indices:
                    rng = np.random.default_rng([config.seed, kind, int(index)])
                    labels.append(int(rng.integers(cifar.CLASSES)))
                    images.append(clutter_digit(rng, labels[-1], scans, pictures, config.digits))
                    progress.update()
                stacked = torch.from_numpy(rearrange(images, "b h w c -> b c h w").copy())
                cifar.write_records(folder / name, stacked, torch.tensor(labels))
        write_text(folder / "batches.meta.txt", "".join(f"{digit}\n" for digit in range(cifar.CLASSES)))
        write_manifest(partial, config)
