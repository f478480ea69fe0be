"""Detection of scene cuts by tracked corners, without a network."""

import cv2
import numpy as np
from einops import rearrange
from torch import Tensor

SIDE = 160  # pixels; longer side of the frames for tracking
CORNERS = 100  # greatest number in a frame
FEWEST = 8  # least number in both frames for a result
WINDOW = (21, 21)  # pixels; tracked window around a corner
LEVELS = 4  # of the tracker's pyramid, above the frames
NEAR = 1.0  # pixels; greatest distance of a returned track from its start


def returning(image1: Tensor, image2: Tensor) -> float | None:
    """Share of the corners of both frames that return to their start when tracked to the other frame and back.

    This is the forward-backward error of Kalal, Mikolajczyk and Matas, ICPR 2010, with the pyramidal tracker of Lucas
    and Kanade on grey frames, whose histograms are equalised against changes of exposure. Tracks start from zero
    motion and, in a second try, from the shift between the frames (phase correlation), since a fast camera rotation
    moves the whole frame beyond the tracker's reach. The better try counts. None if there are too few corners.

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
    """The downscaled grey frame with equalised histogram, uint8 (h, w)."""
    grey = cv2.cvtColor(np.ascontiguousarray(rearrange(image, "c h w -> h w c").numpy()), cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    factor = min(1.0, SIDE / max(height, width))
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return cv2.equalizeHist(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def corners(grey: np.ndarray) -> np.ndarray:
    """Corners of a frame that can be tracked, float32 (n, 1, 2)."""
    found = cv2.goodFeaturesToTrack(grey, CORNERS, qualityLevel=0.01, minDistance=5)
    return np.empty((0, 1, 2), np.float32) if found is None else found


def there_and_back(first: np.ndarray, second: np.ndarray, points: np.ndarray, shift: np.ndarray) -> int:
    """Number of points of the first frame that return from the second; tracks start with the motion `shift`."""
    if not len(points):
        return 0
    there, found = tracked(first, second, points, points + shift)
    back, again = tracked(second, first, there, there - shift)
    near = np.linalg.norm(points - back, axis=2) < NEAR
    return int(np.count_nonzero(near & (found == 1) & (again == 1)))


def tracked(first: np.ndarray, second: np.ndarray, points: np.ndarray, begin: np.ndarray) -> tuple[np.ndarray, ...]:
    """Positions in the second frame of points of the first, (n, 1, 2), and whether they were found, (n, 1)."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, begin.copy(), winSize=WINDOW, maxLevel=LEVELS, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    return there, found
