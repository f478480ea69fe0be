"""Which damage of a JPEG `whole_pixels` finds, and what it costs beside a plain decode: docs/vision-data.md.

    python -m benchmarks.vision.damaged_images [--times 30] [--page docs/vision-data.md]

Six photographs that come with scikit-image and scikit-learn, in every encoding below, are each damaged `--times` times
in every way below, somewhere in their compressed pixels. Shares depend on the seed and on libjpeg, not on the machine.
Times of the whole files are taken by turns; the ratio is that of the sums, each file's its fastest.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.core.pages import markdown, with_table
from deq_core.experiment import photographs
from deq_core.experiment.files import write_text
from deq_core.experiment.image_contents import whole_pixels
from deq_core.experiment.images import JPEG_END, FileFormatError, decode, one_thread

NAMES = (*photographs.VALIDATION, *photographs.TEST)
TABLE = "damaged images"
SEED, ROUNDS = 0, 15
SCAN, SCAN_HEADER = b"\xff\xda", 16  # the marker and bytes that the compressed pixels follow

Damage = Callable[[bytes, int, np.random.Generator], bytes]
"""Of a file, at a position, with random bytes of a generator."""


def overwritten(jpeg: bytes, at: int, data: bytes) -> bytes:
    return jpeg[:at] + data + jpeg[at + len(data) :]


DAMAGES: Mapping[str, Damage] = {
    "cut off": lambda jpeg, at, rng: jpeg[:at],
    "cut off, end marker behind": lambda jpeg, at, rng: jpeg[:at] + JPEG_END,
    "512 bytes missing": lambda jpeg, at, rng: jpeg[:at] + jpeg[at + 512 :],
    "512 random bytes": lambda jpeg, at, rng: overwritten(jpeg, at, rng.bytes(512)),
    "512 zeros": lambda jpeg, at, rng: overwritten(jpeg, at, bytes(512)),
    "16 random bytes": lambda jpeg, at, rng: overwritten(jpeg, at, rng.bytes(16)),
    "one bit": lambda jpeg, at, rng: overwritten(jpeg, at, bytes([jpeg[at] ^ 1 << rng.integers(8)])),
}
LONGEST = 512
HEADER = ("encoding", *DAMAGES, "none", "time")


@dataclass(frozen=True)
class Encoding:
    """How a photograph, in OpenCV's order, becomes a JPEG."""

    options: tuple[int, ...] = ()
    """Of `cv2.imencode`, by default quality 95, baseline, colours of half the size (4:2:0)."""
    scale: float = 1.0
    grey: bool = False

    def __call__(self, photograph: np.ndarray) -> bytes:
        pixels = cv2.resize(photograph, None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_AREA)
        if self.grey:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        return cv2.imencode(".jpg", pixels, self.options)[1].tobytes()


PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
ENCODINGS: Mapping[str, Encoding] = {
    "quality 95": Encoding(),
    "quality 75": Encoding((cv2.IMWRITE_JPEG_QUALITY, 75)),
    "quality 30": Encoding((cv2.IMWRITE_JPEG_QUALITY, 30)),
    "optimised": Encoding((cv2.IMWRITE_JPEG_OPTIMIZE, 1)),
    "4:4:4": Encoding((cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)),
    "4:2:2": Encoding((cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422)),
    "restart every 4": Encoding((cv2.IMWRITE_JPEG_RST_INTERVAL, 4)),
    "progressive": Encoding(PROGRESSIVE),
    "progressive, quality 75": Encoding((*PROGRESSIVE, cv2.IMWRITE_JPEG_QUALITY, 75)),
    "grey": Encoding(grey=True),
    "grey, progressive": Encoding(PROGRESSIVE, grey=True),
    "half as large": Encoding(scale=0.5),
    "twice as large": Encoding(scale=2.0),
}


@dataclass(frozen=True)
class Found:
    """Of one file: whether it was called damaged while it was whole, how often then, and what a look at it takes."""

    whole: bool
    damaged: Mapping[str, int]
    """By the name of the damage."""
    seconds: tuple[float, float]
    """Of `whole_pixels`, and of a plain decode; of the whole file."""


def measure(jpeg: bytes, times: int, place: Path) -> Found:
    """Every damage `times` times; `place` is the file that is written and read."""
    place.write_bytes(jpeg)
    whole, seconds = is_called_damaged(place), fastest(place)
    rng = np.random.default_rng(SEED)
    damaged = dict.fromkeys(DAMAGES, 0)
    for name, damage in DAMAGES.items():
        for at in rng.integers(jpeg.index(SCAN) + SCAN_HEADER, len(jpeg) - LONGEST - len(JPEG_END), times):
            place.write_bytes(damage(jpeg, int(at), rng))
            damaged[name] += is_called_damaged(place)
    return Found(whole, damaged, seconds)


def is_called_damaged(path: Path) -> bool:
    try:
        whole_pixels(path)
    except FileFormatError:
        return True
    return False


def fastest(path: Path) -> tuple[float, float]:
    """Seconds of `whole_pixels`, and of a plain decode, by turns."""
    rounds = [(clocked(whole_pixels, path), clocked(plain, path)) for _ in range(ROUNDS)]
    checked, decoded = zip(*rounds, strict=True)
    return min(checked), min(decoded)


def plain(path: Path) -> np.ndarray:
    return decode(path, cv2.IMREAD_UNCHANGED)


def clocked(read: Callable[[Path], object], path: Path) -> float:
    start = time.perf_counter()
    read(path)
    return time.perf_counter() - start


def row(name: str, files: Sequence[Found], times: int) -> list[str]:
    """Shares are rounded down, so that only all are 100 %."""
    shares = [100 * sum(file.damaged[damage] for file in files) // (times * len(files)) for damage in DAMAGES]
    checked, decoded = (sum(seconds) for seconds in zip(*(file.seconds for file in files), strict=True))
    whole = f"{sum(file.whole for file in files)} of {len(files)}"
    return [name, *(f"{share} %" for share in shares), whole, f"{checked / decoded:.2f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=30, help="how often each file is damaged in each way")
    parser.add_argument("--page", type=Path, help="page whose table is replaced, such as docs/vision-data.md")
    options = parser.parse_args(arguments)
    images = [image[:, :, ::-1] for image in photographs.load_all(NAMES)]  # OpenCV's order
    every: dict[str, list[Found]] = {}
    with one_thread(), TemporaryDirectory() as folder:
        for name, encode in ENCODINGS.items():
            every[name] = [measure(encode(image), options.times, Path(folder) / "image.jpg") for image in images]
    every["all"] = [file for files in every.values() for file in files]
    table = markdown(HEADER, [row(name, files, options.times) for name, files in every.items()])
    print(table)
    if options.page is not None:
        write_text(options.page, with_table(options.page.read_text(encoding="utf-8"), TABLE, table))


if __name__ == "__main__":
    main()
