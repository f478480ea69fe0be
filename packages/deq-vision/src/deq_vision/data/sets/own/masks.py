"""Your own images, each with a mask of pixel classes."""

from pathlib import Path

from torch.utils.data import Dataset

from deq_core.experiment.data.images import FileFormatError, read_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.media.video import size_of
from deq_vision.data.samples import SegmentedImage
from deq_vision.data.sets.own.labels import FILE, labels_of
from deq_vision.data.sets.own.splits import Split, folder_of, labelled_pictures, pictures

LAYOUT = "pictures are in images/, the mask of images/NAME.jpg is masks/NAME.png, and labels.yaml names the classes"


class OwnMasks(Dataset[SegmentedImage]):
    """The images of `root`/images with masks in `root`/masks, or of `root`/`split` if `root` has a folder train.

    `root`/labels.yaml maps pixel values or colours of masks to classes, see `labels.LabelFile`. Without split folders,
    about a fifth of the images is held out, see `of_split`. Images are rotated upright, and masks must have that size.

    Args:
        root: folder of images, masks and labels.yaml, or of the splits and labels.yaml.
        split: train, val or test.

    Raises:
        LayoutError: a folder, a mask or labels.yaml is missing, the split has no image, or two images would share a
            mask.
        ConfigError: the contents of labels.yaml are invalid.
    """

    def __init__(self, root: Path, split: Split = "train") -> None:
        self.source = root / FILE
        self.labels = labels_of(root)
        folder = folder_of(root, split) / "images"
        self.images = labelled_pictures(root, split, folder, LAYOUT)
        require_own_masks(pictures(folder))
        missing = [mask_of(image) for image in self.images if not mask_of(image).is_file()]
        if missing:
            others = f" and {len(missing) - 1} others are missing" if missing[1:] else ""
            raise LayoutError(
                f"{missing[0]}: expected the mask of a picture in images, but there is none{others}; add it, or "
                f"remove the picture; {LAYOUT}",
                missing,
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        return [self.source, *self.images, *map(mask_of, self.images)]

    def __getitem__(self, index: int) -> SegmentedImage:
        path = self.images[index]
        image, mask = read_image(path, upright=True), self.labels.read(mask_of(path))
        if mask.shape != image.shape[1:]:
            raise FileFormatError(
                f"{mask_of(path)}: expected {size_of(image)} pixels, as {path} has when displayed, got "
                f"{size_of(mask[None])}; save both at one size"
            )
        return SegmentedImage(image, mask, path.name)


def require_own_masks(images: list[Path]) -> None:
    """Raises LayoutError if the names of two images differ only in the suffix."""
    known: dict[Path, Path] = {}
    for image in images:
        other = known.setdefault(mask_of(image), image)
        if other != image:
            raise LayoutError(
                f"{image} and {other.name}: two pictures, whose mask would be {mask_of(image)}; name one and its mask "
                "differently, or remove one"
            )


def mask_of(image: Path) -> Path:
    """The mask of an image."""
    return image.parents[1] / "masks" / f"{image.stem}.png"
