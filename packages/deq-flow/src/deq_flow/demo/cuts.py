"""Whether two frames have anything in common, by what is in them and no network: scene cuts."""

import cv2
import numpy as np
from einops import rearrange
from torch import Tensor

SIDE = 160  # pixels along the longer side that frames are compared at
CORNERS = 100  # of each frame, at most
FEWEST = 8  # corners of both frames together that tell anything
WINDOW = (21, 21)  # pixels that are tracked around a corner
LEVELS = 4  # of the tracker's pyramid, above the frames
NEAR = 1.0  # pixels from where it began that a track must come back to


def returning(image1: Tensor, image2: Tensor) -> float | None:
    """Share of the corners of either frame that come back when they are tracked into the other and back again.

    The forward-backward error of Kalal, Mikolajczyk and Matas, ICPR 2010, of Lucas and Kanade's pyramidal tracker on
    grey frames with equalised histograms, which changes of exposure leave as they are. Tracks begin where they are and,
    in a second try, at the one shift that fits the frames best (phase correlation), since a camera that turns quickly
    moves all of a frame further than the tracker reaches; the better try counts. None where there are no corners.

    Args:
        image1: uint8 RGB (3, h, w).
        image2: uint8 RGB (3, h, w).
    """
    first, second = small(image1), small(image2)
    corners1, corners2 = corners(first), corners(second)
    count = len(corners1) + len(corners2)
    if count < FEWEST:
        return None
    window = cv2.createHanningWindow((first.shape[1], first.shape[0]), cv2.CV_32F)
    shift, _ = cv2.phaseCorrelate(first.astype(np.float32), second.astype(np.float32), window)
    kept = [
        there_and_back(first, second, corners1, begin) + there_and_back(second, first, corners2, -begin)
        for begin in (np.zeros(2, np.float32), np.array(shift, np.float32))
    ]
    return max(kept) / count


def small(image: Tensor) -> np.ndarray:
    """The frame in grey, reduced, its histogram equalised: uint8 (h, w)."""
    grey = cv2.cvtColor(np.ascontiguousarray(rearrange(image, "c h w -> h w c").numpy()), cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    factor = min(1.0, SIDE / max(height, width))
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return cv2.equalizeHist(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def corners(grey: np.ndarray) -> np.ndarray:
    """What can be tracked in a frame, float32 (n, 1, 2)."""
    found = cv2.goodFeaturesToTrack(grey, CORNERS, qualityLevel=0.01, minDistance=5)
    return np.empty((0, 1, 2), np.float32) if found is None else found


def there_and_back(first: np.ndarray, second: np.ndarray, points: np.ndarray, shift: np.ndarray) -> int:
    """How many points of the first frame come back from the second; tracks begin shifted by `shift`."""
    if not len(points):
        return 0
    there, found = tracked(first, second, points, points + shift)
    back, again = tracked(second, first, there, there - shift)
    near = np.linalg.norm(points - back, axis=2) < NEAR
    return int(np.count_nonzero(near & (found == 1) & (again == 1)))


def tracked(first: np.ndarray, second: np.ndarray, points: np.ndarray, begin: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where points of the first frame are in the second, (n, 1, 2), and whether they were found, (n, 1)."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, begin.copy(), winSize=WINDOW, maxLevel=LEVELS, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    return there, found
