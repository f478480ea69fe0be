"""What tells whether a flow of the demo is one: scene cuts, what leads back, what is left when it is undone; marks."""

import math
from itertools import permutations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from deq_core.experiment.data.photographs import TEST, VALIDATION, load_all
from deq_flow.demo.consistency import confidence, disagreement, occlusion
from deq_flow.demo.cuts import returning
from deq_flow.demo.follow import APART, Estimate, Reason, distrust
from deq_flow.demo.outputs import dump
from deq_flow.demo.pictures import MARK, marked
from deq_flow.demo.warped import warped_back

SIZES = [(64, 96), (240, 320)]
PHOTOGRAPHS = load_all((*VALIDATION, *TEST))


def frame(pixels: np.ndarray) -> Tensor:
    """A photograph as a frame."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def seen(photograph: np.ndarray, size: tuple[int, int], *, by: float = 0.0, turn: float = 0.0, gain: float = 1.0):
    """The middle of a photograph: moved by a share of the width, turned by degrees, in another exposure."""
    height, width = size
    tall, wide = photograph.shape[:2]
    motion = cv2.getRotationMatrix2D((wide / 2, tall / 2), turn, 1.0)
    motion[:, 2] += by * width - (wide - width) / 2, -(tall - height) / 2
    pixels = cv2.warpAffine(photograph, motion, (width, height), borderMode=cv2.BORDER_REFLECT)
    return frame(np.clip(pixels * gain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_little_returns_between_two_photographs(size: tuple[int, int]) -> None:
    frames = [seen(photograph, size) for photograph in PHOTOGRAPHS]
    shares = [returning(*pair) for pair in permutations(frames, 2)]
    assert all(share is not None and share < APART for share in shares)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "motion", [{}, {"by": 0.05, "gain": 0.6}, {"by": 0.1, "turn": 5.0, "gain": 1.3}, {"by": -0.2}], ids=str
)
def test_what_moves_turns_or_is_exposed_otherwise_returns(size: tuple[int, int], motion: dict[str, float]) -> None:
    for photograph in PHOTOGRAPHS:
        share = returning(seen(photograph, size), seen(photograph, size, **motion))
        assert share is not None
        assert share > 1.3 * APART


def test_where_nothing_can_be_tracked_nothing_is_said() -> None:
    black, picture = torch.zeros(3, 64, 96, dtype=torch.uint8), seen(PHOTOGRAPHS[0], (64, 96))
    assert returning(black, black) is None
    assert returning(black, picture) == returning(picture, black) == 0.0, "a picture that appears is a cut"


@pytest.mark.parametrize("speed", [0.2, 2.0])
@pytest.mark.parametrize(
    ("error", "apart", "worse", "far", "reason"),
    [
        (1.0, False, False, False, None),
        (1.0, True, False, False, None),  # it explains its frames: things moved far
        (2.1, True, True, True, "scene cut"),
        (9.0, True, False, True, "scene cut"),
        (2.1, False, False, True, "not converged"),
        (1.0, True, True, False, "suddenly worse"),
        (4.1, False, True, False, "worse than no motion"),
    ],
)
def test_a_flow_is_not_trusted_for_what_it_leaves_unexplained(
    speed: float, error: float, apart: bool, worse: bool, far: bool, reason: Reason | None
) -> None:
    image, flow = torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(2, 16, 16)
    flow[0] = speed
    one = Estimate(image, image, flow, 1, None, None, (), "cold", error, 4.0)
    expected = None if reason in ("worse than no motion", "suddenly worse") and speed < 0.5 else reason
    assert distrust(one, apart, worse, far) == expected, "what hardly moves misleads nobody"
    flow[1, 3, 3] = torch.nan
    assert distrust(one, apart, worse, far) == "not finite"


@pytest.mark.parametrize("size", [(16, 16), (64, 96), (270, 480), (1080, 1920)])
def test_a_mark_is_a_border_on_all_sides_and_a_word_that_leaves_most_of_the_picture(size: tuple[int, int]) -> None:
    picture = torch.full((3, *size), 128, dtype=torch.uint8)
    shown = marked(picture, "worse than no motion")
    assert (picture == 128).all(), "the picture that is given stays"
    edge = torch.tensor(MARK)[:, None]
    assert (shown[:, -1, :] == edge).all()
    assert (shown[:, :, -1] == edge).all()
    assert (shown[:, :, 0] == edge).all()
    assert (shown[:, 0, :] == edge).all()
    if min(size) > 16:
        assert (shown == picture).all(dim=0).float().mean() > 0.6
        assert (shown.sum(dim=0) < sum(MARK) / 2).any(), "the word, dark on the label"


def crossing() -> tuple[Tensor, Tensor, Tensor]:
    """Flow and backward flow of a square that moves by 6 pixels over ground that moves by -2, and what it covers."""
    flow, backward = torch.zeros(2, 32, 48), torch.zeros(2, 32, 48)
    flow[0], backward[0] = -2.0, 2.0
    flow[0, 8:24, 8:24], backward[0, 8:24, 14:30] = 6.0, -6.0
    hidden = torch.zeros(32, 48, dtype=torch.bool)
    hidden[8:24, 24:32] = True  # ground below the square in the second frame, where it lies 2 to the left
    hidden[:, :2] = True  # and what leaves the frame
    return flow, backward, hidden


def test_what_does_not_lead_back_is_occluded() -> None:
    flow, backward, hidden = crossing()
    assert torch.equal(occlusion(flow, backward), hidden)
    sure = confidence(flow, backward)
    assert (sure[~hidden] == 1).all()
    assert (sure[hidden] < 1e-3).all()


def test_confidence_falls_to_one_over_e_where_occlusion_begins() -> None:
    flow, backward = torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)
    flow[0], backward[1] = 3.0, 4.0
    limit = 0.01 * (9 + 16) + 0.5
    assert disagreement(flow, backward)[4, 4] == pytest.approx(25 / limit)
    flow.zero_()
    for length, hidden in ((0.70, False), (0.72, True)):  # the limit is 0.5 + 0.01 length^2
        backward[1] = length
        assert bool(occlusion(flow, backward)[4, 4]) is hidden
        assert (float(confidence(flow, backward)[4, 4]) < math.exp(-1)) is hidden


@pytest.mark.parametrize("unknown", [torch.nan, torch.inf, 1e10])
def test_unknown_motion_leads_nowhere(unknown: float) -> None:
    flow, backward, _ = crossing()
    flow[:, 2, 10] = unknown
    backward[:, 28, 10:12] = unknown
    hidden = occlusion(flow, backward)
    assert hidden[2, 10]
    assert hidden[28, 12]
    assert confidence(flow, backward)[2, 10] == 0


def test_the_second_frame_warped_back_is_the_first_where_both_see_the_same() -> None:
    wide = frame(PHOTOGRAPHS[0])[:, :64, :110]
    first, second = wide[:, :, 5:101], wide[:, :, 0:96]  # everything moves 5 to the right
    flow = torch.zeros(2, 64, 96)
    flow[0] = 5.0
    back = warped_back(second, flow)
    assert torch.equal(back[:, :, :91], first[:, :, :91].float())
    assert torch.equal(back[:, :, 91:], second[:, :, -1:].float().expand(3, 64, 5)), "beyond the border, the border"


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_values_between_pixels_are_interpolated(channels: int) -> None:
    ramp = 100.0 * torch.arange(8.0).expand(channels, 8, 8)
    flow = torch.full((2, 8, 8), 0.01)
    assert warped_back(ramp, flow)[:, 3, 3].tolist() == pytest.approx(channels * [301.0], abs=1e-3)


@pytest.mark.parametrize("kind", ["backward", "occlusion", "confidence"])
def test_what_takes_both_directions_says_so_where_there_is_one(tmp_path, kind) -> None:
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    one = Estimate(image, image, torch.zeros(2, 16, 16), 1, None, None, (), "cold", 0.0, 0.0)
    with pytest.raises(ValueError, match="backward=True"):
        dump(kind, tmp_path / "000000", one)
