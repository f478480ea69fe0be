"""Your own images with boxes in the JSON format of COCO."""

from pathlib import Path

from torch.utils.data import Dataset

from deq_core.experiment.data.images import FileFormatError, read_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.media.video import size_of
from deq_vision.data.samples import Annotated, AnnotatedImage
from deq_vision.data.sets.own.coco import CocoFile, read_coco
from deq_vision.data.sets.own.splits import Split, folder_of, labelled_pictures, pictures

LAYOUT = "boxes are in one JSON file of COCO's format, there or in annotations/, and pictures in images/ or beside it"


class OwnBoxes(Dataset[AnnotatedImage]):
    """The images of `root`/images with boxes from a JSON file, or of `root`/`split` if `root` has a folder train.

    The file is the only JSON file in `root` and `root`/annotations. It has an entry for each image, and no annotations
    for an image without objects. Without a folder images, the images are in `root` itself. Without split folders, about
    a fifth of the images is held out, see `of_split`. Images are rotated upright, and their entries must have that
    size.

    Args:
        root: folder of images and file, or of the splits.
        split: train, val or test.

    Raises:
        LayoutError: a folder, the file or an image is missing; an image is not in the file; or the split has no image
            with a box.
        FileFormatError: the file is damaged, or has other categories than that of train.
    """

    def __init__(self, root: Path, split: Split = "train") -> None:
        folder = folder_of(root, split)
        self.source = annotations_in(folder)
        self.known = read_coco(self.source)
        self.categories = self.known.categories
        require_categories(root, self.source, self.known)
        self.folder = folder / "images" if (folder / "images").is_dir() else folder
        self.images = labelled_pictures(root, split, self.folder, LAYOUT)
        require_pictures(self.folder, self.source, self.known)
        if not any(len(self.known.objects[path.name]) for path in self.images):
            raise LayoutError(
                f"{self.source}: expected boxes in the pictures for {split}, got none in {len(self.images)}; annotate "
                "some of them, or say by folders train and val which pictures are held out"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        return [self.source, *self.images]

    def __getitem__(self, index: int) -> AnnotatedImage:
        path = self.images[index]
        image, size = read_image(path, upright=True), self.known.sizes[path.name]
        if tuple(image.shape[1:]) != size:
            raise FileFormatError(
                f"{path}: expected {size[1]}x{size[0]} pixels as displayed, its width and height in {self.source}, got "
                f"{size_of(image)}; correct them there, or take the picture that was annotated"
            )
        objects = self.known.objects[path.name]
        return AnnotatedImage(image, objects, path.name, Annotated(objects, size, self.known.crowds[path.name]))


def annotations_in(folder: Path) -> Path:
    """The JSON file in a folder or its subfolder annotations.

    Raises:
        LayoutError: there is none, or more than one.
    """
    found = jsons_in(folder)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found[:3]) or "none"
    raise LayoutError(f"{folder}: expected one JSON file of boxes, got {names}; {LAYOUT}", [] if found else [folder])


def jsons_in(folder: Path) -> list[Path]:
    """JSON files in a folder and its subfolder annotations, except hidden ones."""
    places = [place for place in (folder, folder / "annotations") if place.is_dir()]
    return sorted(path for place in places for path in place.glob("*.json") if not path.name.startswith("."))


def require_categories(root: Path, source: Path, known: CocoFile) -> None:
    """Raises FileFormatError if the file of a split has other categories than that of train."""
    first = annotations_in(folder_of(root, "train"))
    if first != source and (other := read_coco(first).categories) != known.categories:
        odd = sorted(set(other.items()) ^ set(known.categories.items()))[0]
        raise FileFormatError(
            f"{source}: expected the categories of {first}, got others: {odd[0]} {odd[1]} is not in both"
        )


def require_pictures(folder: Path, source: Path, known: CocoFile) -> None:
    """Raises LayoutError unless the folder has exactly the images in the file."""
    if missing := [folder / name for name in known.sizes if not (folder / name).is_file()]:
        others = f" and {len(missing) - 1} others are missing" if missing[1:] else ""
        raise LayoutError(
            f"{missing[0]}: expected a picture, which {source} has in images, but there is none{others}; add it, or "
            "remove its entry",
            missing,
        )
    if unnamed := [path for path in pictures(folder) if path.name not in known.sizes]:
        others = f" and for {len(unnamed) - 1} other pictures" if unnamed[1:] else ""
        raise LayoutError(
            f"{unnamed[0]}: expected an entry in images of {source}, got none{others}; add it, without annotations if "
            "nothing is in the picture, or remove the picture"
        )
