"""Pictures of one's own with a mask each, which has the class of every pixel."""

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
    """The pictures of `root`/images with masks in `root`/masks, or of `root`/`split` where `root` has a folder train.

    Which numbers or colours of the masks are which classes is in `root`/labels.yaml, see `labels.LabelFile`. Without
    folders of splits about a fifth of the pictures is held out, see `of_split`. Pictures are turned to how a person
    sees them, which is what a mask must have the size of.

    Args:
        root: folder of images, masks and labels.yaml, or of the splits and labels.yaml.
        split: train, val or test.

    Raises:
        LayoutError: a folder, a mask or labels.yaml is missing, there is no picture for the split, or one mask would be
            that of two.
        ConfigError: labels.yaml holds something else than labels.
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
                f"{missing[0]}: expected the mask of a picture in images, but there is none{others}; add it, or take "
                f"the picture away; {LAYOUT}",
                missing,
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def files(self) -> list[Path]:
        """All that is read."""
        return [self.source, *self.images, *map(mask_of, self.images)]

    def __getitem__(self, index: int) -> SegmentedImage:
        path = self.images[index]
        image, mask = read_image(path, upright=True), self.labels.read(mask_of(path))
        if mask.shape != image.shape[1:]:
            raise FileFormatError(
                f"{mask_of(path)}: expected {size_of(image)} pixels, as {path} has them for a person, got "
                f"{size_of(mask[None])}; save both at one size"
            )
        return SegmentedImage(image, mask, path.name)


def require_own_masks(images: list[Path]) -> None:
    """Raises LayoutError where the names of two pictures differ in the suffix alone."""
    known: dict[Path, Path] = {}
    for image in images:
        other = known.setdefault(mask_of(image), image)
        if other != image:
            raise LayoutError(
                f"{image} and {other.name}: two pictures, whose mask would be {mask_of(image)}; name one and its mask "
                "otherwise, or take it away"
            )


def mask_of(image: Path) -> Path:
    """The mask of a picture."""
    return image.parents[1] / "masks" / f"{image.stem}.png"
