"""Your own images in folders named after their classes."""

import os
import warnings
from functools import cache
from pathlib import Path

from torch.utils.data import Dataset

from deq_core.experiment.data.images import read_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.media.image_folder import IMAGES
from deq_core.experiment.outputs.written import RECORD
from deq_vision.data.samples import LabelledImage
from deq_vision.data.sets.own.splits import SPLITS, Split, folder_of, of_split, pictures


class OwnClasses(Dataset[LabelledImage]):
    """The images of `root`/CLASS/, or of `root`/`split`/CLASS/ if `root` has a folder train.

    Classes are numbered in alphabetical order. Without split folders, about a fifth of the images of each class is held
    out, see `of_split`.

    Args:
        root: folder of the classes or of the splits.
        split: train, val or test.

    Raises:
        LayoutError: there are fewer than two classes, a class has no image in the split, or splits have different
            classes.
    """

    def __init__(self, root: Path, split: Split = "train") -> None:
        self.classes = classes_of(root)
        folder = folder_of(root, split)
        self.images: list[tuple[int, Path]] = []
        for label, name in enumerate(self.classes):
            found = of_split(pictures(folder / name), root, split)
            if not found:
                raise LayoutError(
                    f"{folder / name}: expected pictures ({', '.join(IMAGES)}) for {split}, got none that are not held "
                    "out for another split; a class needs at least two"
                )
            self.images += [(label, path) for path in found]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        return [path for _, path in self.images]

    def __getitem__(self, index: int) -> LabelledImage:
        label, path = self.images[index]
        return LabelledImage(read_image(path, upright=True), label, f"{self.classes[label]}/{path.name}")


def classes_of(root: Path) -> list[str]:
    """Names of the classes in the order of their numbers. Empty folders beside theirs are warnings, and no classes.

    Raises:
        LayoutError: there are fewer than two, or splits have different ones.
    """
    if not root.is_dir():
        raise LayoutError(
            f"{root}: expected a folder with a folder of pictures for each class, but there is none", [root]
        )
    folder = folder_of(root, "train")
    found = named_in(folder)
    if not found and folder != root and pictures(folder):
        raise LayoutError(
            f"{folder}: expected the training split, which a folder of that name is, with a folder for each class, got "
            "pictures; rename the class"
        )
    if len(found) < 2:
        raise LayoutError(
            f"{folder}: expected folders of at least two classes with pictures "
            f"({', '.join(IMAGES)}) in them, got {len(found)}; or images, masks and labels.yaml, or images and a JSON "
            "file of boxes"
        )
    for split in SPLITS:
        if (other := named_in(folder_of(root, split))) != found:
            odd = ", ".join(sorted(set(other) ^ set(found))[:3])
            raise LayoutError(f"{folder_of(root, split)}: expected the classes of train; not in both: {odd}")
    for place in sorted(folder.glob("[!.]*")):
        if place.name not in found and place.is_dir() and not any(place.iterdir()):
            warn_of_empty(place)
    return found


@cache
def warn_of_empty(folder: Path) -> None:
    """Warns once of an empty folder. `warnings` alone forgets what it showed whenever `catch_warnings` is used."""
    said = f"{folder}: an empty folder, so no class; put the pictures of a class in it, or remove it"
    warnings.warn(said, stacklevel=3)


def named_in(folder: Path) -> list[str]:
    """Names of the subfolders that hold images, sorted, except hidden ones and the output of a command.

    Raises:
        LayoutError: the folder does not exist; a subfolder has images only further below, where they would not be read;
            or a name is not UTF-8.
    """
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected folders of classes, as there are for train, but there is none", [folder])
    with os.scandir(folder) as entries:
        places = sorted(Path(entry.path) for entry in entries if entry.is_dir() and entry.name[0] != ".")
    places = [place for place in places if not (place / RECORD).is_file()]
    found = [place.name for place in places if pictures(place)]
    for name in found:
        if any("\ud800" <= character <= "\udfff" for character in name):  # OpenCV crashes on drawing such text
            raise LayoutError(f"{folder / name}: expected a name in UTF-8, got {os.fsencode(name)!r}; rename it")
    for place in places:
        if found and place.name not in found and (below := first_with_pictures(place)) is not None:
            raise LayoutError(
                f"{place}: expected the pictures of a class in its folder, got them in {below}; move them up, or the "
                "folder away if it is no class"
            )
    return found


def first_with_pictures(folder: Path) -> Path | None:
    """The first folder, at or below the given one, that has images, except hidden ones; None if there is none."""
    for place, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if name[0] != ".")
        if pictures(Path(place)):
            return Path(place)
    return None
