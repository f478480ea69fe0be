"""A folder of frames, such as a video taken apart: unlabelled consecutive pairs."""

import re
from pathlib import Path

from torch.utils.data import Dataset

from deq_core.experiment.data.layout import LayoutError
from deq_flow.data.samples import FlowSample
from deq_flow.data.sets.layout import read_pair, unknown_flow

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Frames(Dataset[FlowSample]):
    """The images of `folder` as consecutive pairs, valid nowhere, each turned as its EXIF data say.

    Frames are sorted by name with numbers as numbers: frame_9 comes before frame_10. Other files are left out, and so
    are hidden ones and folders.

    Raises:
        LayoutError: there is no such folder, it holds fewer than two images, or two that differ in suffix alone.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise LayoutError(f"{folder}: expected a folder of images, but there is none", [folder])
        images = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
        self.images = sorted((path for path in images if path.is_file()), key=place)
        if len(self.images) < 2:
            raise LayoutError(
                f"{folder}: expected at least two images ({', '.join(SUFFIXES)}), got {len(self.images)} files of these"
            )
        stems = {path.stem: path for path in self.images}
        for path in self.images:
            if stems[path.stem] != path:
                raise LayoutError(f"{path} and {stems[path.stem].name}: two images of one name; remove one")

    def __len__(self) -> int:
        return len(self.images) - 1

    def __getitem__(self, index: int) -> FlowSample:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, got {index}")
        first = self.images[index]
        image1, image2 = read_pair(first, self.images[index + 1], upright=True)
        return FlowSample(image1, image2, *unknown_flow(image1), first.stem)

    def sequences(self) -> dict[str, range]:
        """All pairs, which are one video, under the name of the folder."""
        return {self.images[0].parent.name: range(len(self))}


def place(path: Path) -> tuple[list[str | int], str]:
    """What frames are sorted by: texts and numbers of the name in turn, then the name itself."""
    parts = re.split(r"(\d+)", path.stem)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name
