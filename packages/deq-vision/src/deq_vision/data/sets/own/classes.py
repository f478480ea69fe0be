"""Pictures of one's own in folders that are named as their classes."""

import os
from pathlib import Path

from torch.utils.data import Dataset

from deq_core.experiment.data.images import read_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.media.image_folder import IMAGES
from deq_core.experiment.written import RECORD
from deq_vision.data.samples import LabelledImage
from deq_vision.data.sets.own.splits import SPLITS, Split, folder_of, of_split, pictures


class OwnClasses(Dataset[LabelledImage]):
    """The pictures of `root`/CLASS/, or of `root`/`split`/CLASS/ where `root` has a folder train.

    Classes are numbered in the order of their names. Without folders of splits about a fifth of a class's pictures is
    held out, see `of_split`.

    Args:
        root: folder of the classes or of the splits.
        split: train, val or test.

    Raises:
        LayoutError: there are fewer than two classes, or one of them has no picture in the split, or other classes in
            another split.
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
        """All that is read."""
        return [path for _, path in self.images]

    def __getitem__(self, index: int) -> LabelledImage:
        label, path = self.images[index]
        return LabelledImage(read_image(path, upright=True), label, f"{self.classes[label]}/{path.name}")


def classes_of(root: Path) -> list[str]:
    """The names of the classes in the order of their numbers.

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
            "pictures; call the class otherwise"
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
    return found


def named_in(folder: Path) -> list[str]:
    """The folders that hold pictures, sorted by name, but for hidden ones and what a command wrote.

    Raises:
        LayoutError: there is no such folder, or one in it has pictures in a further one alone, which nobody would read,
            or a name that is no UTF-8.
    """
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected folders of classes, as there are for train, but there is none", [folder])
    with os.scandir(folder) as entries:
        places = sorted(Path(entry.path) for entry in entries if entry.is_dir() and entry.name[0] != ".")
    places = [place for place in places if not (place / RECORD).is_file()]
    found = [place.name for place in places if pictures(place)]
    for name in found:
        if any("\ud800" <= character <= "\udfff" for character in name):  # OpenCV crashes when it draws them
            raise LayoutError(f"{folder / name}: expected a name in UTF-8, got {os.fsencode(name)!r}; rename it")
    for place in places:
        if found and place.name not in found and (below := first_with_pictures(place)) is not None:
            raise LayoutError(
                f"{place}: expected the pictures of a class in its folder, got them in {below}; move them up, or the "
                "folder away if it is no class"
            )
    return found


def first_with_pictures(folder: Path) -> Path | None:
    """The first folder below one that has pictures, hidden ones aside."""
    for place, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if name[0] != ".")
        if pictures(Path(place)):
            return Path(place)
    return None
