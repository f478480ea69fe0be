"""The demo on images: writes class probabilities, coloured masks or boxes, as pictures and as numbers."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment.data.images import read_image, write_image
from deq_core.experiment.errors import FileFormatError, NonFiniteError
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.media.image_folder import IMAGES, image_files
from deq_core.experiment.media.video import size_of
from deq_core.experiment.outputs.uninterrupted import uninterrupted
from deq_core.experiment.progress import Progress
from deq_core.experiment.rescue import files, rescued
from deq_vision.demo.raw import Raw
from deq_vision.demo.viewer import LEAST, Viewer
from deq_vision.finite import require_finite
from deq_vision.models.mdeq import VisionOutput

SUMMARY = "demo.json"
"""File with the results of the demo."""


def images_of(source: Path) -> tuple[Path, ...]:
    """The image at `source`, or the images in that folder in natural order.

    Raises:
        FileFormatError: `source` does not exist, or has no image.
    """
    if source.is_dir():
        found = image_files(source)
        if not found:
            raise FileFormatError(f"{source}: expected images ({', '.join(IMAGES)}), got none")
        return found
    if not source.is_file():
        raise FileFormatError(f"{source}: no such file or folder")
    if source.suffix.lower() not in IMAGES:
        raise FileFormatError(f"{source}: expected an image ({', '.join(IMAGES)}); `deq-vision stream` takes videos")
    return (source,)


def run(viewer: Viewer, images: Iterable[Path], *, out: Path, name: str = "") -> dict[str, float]:
    """Writes demo.json to the folder `out`, a picture of each image, and the files of `Raw`.

    Args:
        viewer: viewer with the model in evaluation mode.
        images: files.
        out: a new or empty folder, or the unchanged output of an earlier demo, which is replaced.
        name: name of the checkpoint, for demo.json.

    Returns:
        Number of images, mean evaluations and mean residual.

    Raises:
        FileFormatError: an image is damaged or too small; the images before it are in `out`-partial, and `out` is
            unchanged.
        NonFiniteError: an output for an image is not finite; `out` has the images before it.
        OutputError: `out` cannot be written, or has other contents.
        KeyboardInterrupt: Ctrl-C or SIGTERM. `out` has the images until then.
    """
    paths, entries = list(images), []
    ended: KeyboardInterrupt | FileFormatError | NonFiniteError | None = None
    titles = titles_of(paths)
    with output_directory(out) as partial:
        raw = Raw(partial, viewer)
        with Progress(len(paths), unit="image", title="images", seconds=10.0) as progress:
            try:
                for path, title in zip(paths, titles, strict=True):
                    frame = read_image(path, upright=True)
                    seen, output = see(viewer, frame, path)
                    with uninterrupted():
                        raw.add(title, len(entries) + 1, output.logits, seen, frame)
                        write_image(partial / f"{path.name}.png", viewer.picture(output.logits, seen, frame))
                        entries.append({"image": str(path), **entry_of(viewer, output, seen, frame)})
                        progress.update(len(entries), {})
            except (KeyboardInterrupt, FileFormatError, NonFiniteError) as end:
                if not entries:
                    raise
                ended = end
        means = {key: sum(entry[key] for entry in entries) / len(entries) for key in ("evaluations", "residual")}
        write_json(partial / SUMMARY, {"checkpoint": name, "task": viewer.label_space.task, "images": entries, **means})
        if isinstance(ended, FileFormatError):
            with rescued(out, files(partial)):
                raise ended
    if isinstance(ended, NonFiniteError):
        raise NonFiniteError(f"{ended}; what was seen of the {len(entries)} images before it is in {out}") from ended
    if ended is not None:
        print(f"ended early; what was seen of the first {len(entries)} images is in {out}", file=sys.stderr)
        raise ended
    return {"images": len(entries), **means}


def titles_of(paths: Sequence[Path]) -> list[str]:
    """File names of the images, without the suffix if they are still unique."""
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(paths) else [path.name for path in paths]


@torch.no_grad()
def see(viewer: Viewer, frame: Tensor, path: Path) -> tuple[Tensor, VisionOutput]:
    """The model's input and output for an image uint8 (3, h, w)."""
    if min(frame.shape[1:]) < LEAST:
        raise FileFormatError(f"{path}: expected at least {LEAST} pixels a side, got {size_of(frame)}")
    images = viewer.prepare(frame)
    output = viewer.model(images)
    require_finite(output.logits, output.solution.residual, [str(path)])
    return images, output


def entry_of(viewer: Viewer, output: VisionOutput, images: Tensor, frame: Tensor) -> dict[str, Any]:
    """Results for an image as a JSON object."""
    names = viewer.label_space.names
    entry = {"evaluations": output.solution.nfe, "residual": float(output.solution.residual)}
    match viewer.label_space.task:
        case "classify":
            best = viewer.best(output.logits)
            return {**entry, "classes": [{"class": names[index], "probability": value} for index, value in best]}
        case "segment":
            classes = viewer.classes(output.logits, images, frame)
            counts = classes.flatten().bincount(minlength=len(names)) / classes.numel()
            shares = {name: share for name, share in zip(names, counts.tolist(), strict=True) if share}
            return {**entry, "shares": shares}
        case "detect":
            found = viewer.detections(output.logits, images, frame)
            rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
            return {**entry, "boxes": [{"class": names[kind], "score": score, "box": box} for box, score, kind in rows]}
