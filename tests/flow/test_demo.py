"""The motion in a video, followed from frame to frame, and what is written of it."""

import json
import math
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, pairwise, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.images import FileFormatError, read_image, read_mask, write_image
from deq_core.experiment.data.photographs import TEST, VALIDATION, load_all
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.files import OutputError
from deq_core.experiment.media import video, video_file
from deq_core.experiment.media.video import Frames, VideoError
from deq_core.experiment.outputs.written import RECORD
from deq_flow import build
from deq_flow.config import Scales
from deq_flow.data.io import read_flo, read_kitti
from deq_flow.demo.consistency import confidence, occlusion
from deq_flow.demo.follow import Estimate, Reason, Usual, enlarged, follow, reduced
from deq_flow.demo.outputs import Product, outputs
from deq_flow.demo.pictures import Scale, picture, with_arrows
from deq_flow.demo.run import DemoConfig, run
from deq_flow.demo.summary import Summary
from deq_flow.demo.warped import warped_back, warped_error
from deq_flow.inference import Estimator
from deq_flow.models import FlowOutput
from deq_flow.models.scales import evaluations
from deq_flow.networks import Network, load
from deq_flow.visualize import flow_to_rgb

HEIGHT, WIDTH = 32, 48


def scene(seed: int, count: int, step: int = 1) -> list[Tensor]:
    """Frames of a smooth random pattern that moves to the right by `step` pixels a frame."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 8, 16))).float()
    wide = torch.nn.functional.interpolate(coarse, (HEIGHT, 4 * WIDTH), mode="bicubic").clamp(0, 255).byte()[0]
    return [wide[:, :, 2 * WIDTH - step * time :][:, :, :WIDTH].contiguous() for time in range(count)]


SCALES = Scales(coarsest=32)
"""Of these frames: themselves and their halves."""


def estimator(name: str = "deq-flow-mini", steps: int = 8, scales: Scales | None = None) -> Estimator:
    """`network` as the demo runs it."""
    return Estimator(network(name, scales), DemoConfig(steps=steps, tolerance=1e-3).inference())


def network(name: str = "deq-flow-mini", scales: Scales | None = None) -> Network:
    """An untrained network, which contracts as trained ones do."""
    torch.manual_seed(0)
    return build(name, scales=scales).eval()


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flow, not even an untrained network's, counts as worse than none."""
    monkeypatch.setattr("deq_flow.demo.follow.warped_error", lambda *_: 0.0)


def as_frames(pictures: list[Tensor], count: int | None = None) -> Frames:
    """A source that announces `count` frames."""
    return Frames("pictures", 12.0, count, lambda: iter(pictures))


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("scales", [None, SCALES])
def test_each_pair_starts_from_the_fixed_points_of_the_one_before(scales: Scales | None) -> None:
    estimate = estimator(scales=scales)
    pictures = scene(0, 4)
    states = None
    followed = list(follow(estimate, pictures, start="reuse", far=None))
    assert [one.cold for one in followed] == [True, False, False]
    for one, first, second in zip(followed, pictures[:-1], pictures[1:], strict=True):
        output = estimate(first[None], second[None], states)
        assert output.solution is not None
        assert torch.equal(one.image, first)
        assert torch.equal(one.flow, output.flow[0])
        assert one.iterations == evaluations(output, 8)
        assert len(output.states) == (1 if scales is None else 2)
        states = output.states


def test_a_solve_ends_where_hidden_state_and_flow_both_have_settled() -> None:
    tolerance = 0.02
    torch.manual_seed(0)
    estimate = Estimator(build("deq-flow-mini", leak=0.5).eval(), DemoConfig(steps=40, tolerance=tolerance).inference())
    for one in follow(estimate, scene(0, 3)):
        assert one.iterations < 40
        assert one.residual is not None
        assert one.flow_residual is not None
        within = one.residual / tolerance, one.flow_residual / (tolerance * estimate.network.size.scale)
        assert 0 < max(within) <= 1
    (unrolled,) = follow(estimator("raft-mini"), scene(0, 2))
    assert unrolled.residual is unrolled.flow_residual is None


@pytest.mark.parametrize("name", ["deq-flow-mini", "raft-mini"])
def test_pairs_are_independent_of_what_came_before_unless_asked(name: str) -> None:
    estimate = estimator(name)
    pictures = scene(0, 4)
    (_, alone) = follow(estimate, pictures[:3])
    (last,) = follow(estimate, pictures[1:3])
    assert torch.equal(alone.flow, last.flow)
    assert alone.cold
    assert DemoConfig().start == "cold"


def test_scene_cuts_are_marked_and_nothing_is_carried_over_them() -> None:
    estimate = Estimator(load("default"), DemoConfig(steps=12).inference())
    a, b = ([photograph[:, :64, x : x + 96] for x in range(200, 204)] for photograph in photographs())
    clip = [b[0], *a[:3], *b[:3], *a[2:], *b[2:]]
    followed = list(follow(estimate, clip, start="reuse"))
    cut, good = "scene cut", None
    assert [one.warning for one in followed] == [cut, good, good, cut, good, good, cut, good, cut, good]
    assert [one.cold for one in followed] == [True, True, False, True, True, False, True, True, True, True]
    (afresh, *_) = follow(estimate, b[:2])
    assert torch.equal(followed[4].flow, afresh.flow), "the new scene knows nothing of the old one"
    assert max(float(one.flow.norm(dim=0).mean()) for one in followed if one.warning is None) < 1.5


def test_a_residual_within_the_tolerance_is_usual_whatever_came_before() -> None:
    first, second = scene(0, 2)
    output = estimator()(first[None], second[None])
    (one,) = follow(estimator(), [first, second])
    one = replace(one, warning=None)

    def ending_at(residual: float) -> FlowOutput:
        assert output.solution is not None
        return replace(output, solution=replace(output.solution, residual=torch.tensor([residual])))

    usual = Usual(4.0, least=0.05)
    assert not usual.exceeded(ending_at(9.0)), "nothing is usual yet"
    usual.add(one, ending_at(1e-6))  # of a frame that was repeated
    assert not usual.exceeded(ending_at(0.19))
    assert usual.exceeded(ending_at(0.21))
    assert usual.exceeded(ending_at(torch.nan))
    usual.add(one, ending_at(1.0))
    assert usual.means == pytest.approx([0.8e-6 + 0.2])
    assert not Usual(None, least=0.05, means=[1e-6]).exceeded(ending_at(9.0)), "nobody asks"


def test_a_flow_is_far_worse_than_those_before_it_in_its_scene_where_it_also_leaves_much() -> None:
    first, second = scene(0, 2)
    output = estimator()(first[None], second[None])
    (one,) = follow(estimator(), [first, second])
    usual = Usual(None, least=0.0)

    def leaving(error: float, warning: Reason | None = None) -> Estimate:
        return replace(one, error=error, still=20.0, warning=warning)

    still = replace(leaving(0.01), flow=torch.full_like(one.flow, 0.1))
    usual.add(still, output)
    assert not usual.worse(leaving(19.0)), "nothing is usual yet"
    usual.add(leaving(1.0), output)
    for _ in range(20):
        usual.add(still, output)  # a pause
    assert not usual.worse(leaving(5.9)), "it explains most of what is there"
    assert usual.worse(leaving(6.1))
    usual.add(leaving(30.0, "worse than no motion"), output)
    assert usual.error == 1.0
    for _ in range(3):
        usual.add(leaving(6.1, "suddenly worse"), output)
    assert not usual.worse(leaving(6.1)), "what stays is usual"
    usual.add(leaving(30.0, "scene cut"), output)
    assert not usual.worse(leaving(19.0)), "nor is anything in a new scene"


def test_a_camera_that_jumps_within_its_scene_is_not_believed() -> None:
    """The network that ships is lost there, though zero flow is no better and a third of the corners return."""
    wide = torch.from_numpy(load_all(TEST[:1])[0]).permute(2, 0, 1)
    frames = [wide[:, 102:198, left : left + 128] for left in (193, 190, 187, 135, 132)]
    followed = list(follow(Estimator(load("default"), DemoConfig().inference()), frames, start="reuse"))
    assert [one.warning for one in followed] == [None, None, "suddenly worse", None]
    assert [one.start for one in followed] == ["cold", "reuse", "cold", "cold"], "nothing of it is carried on"


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("again", [False, True])
def test_a_residual_far_above_the_usual_at_any_scale_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    whole, calls = Estimator.__call__, iter(range(100))

    def torn(estimate: Estimator, *given: Tensor | None) -> FlowOutput:
        output = whole(estimate, *given)  # pyright: ignore[reportArgumentType]
        (coarse,) = output.coarser
        high = coarse.residual * (1000 if next(calls) in (3, 4 if again else 3) else 1)
        return replace(output, coarser=(replace(coarse, residual=high),))

    monkeypatch.setattr(Estimator, "__call__", torn)
    followed = list(follow(estimator(scales=SCALES), scene(0, 6), start="reuse"))
    assert [one.warning for one in followed] == [None, None, None, "not converged" if again else None, None]
    assert [one.cold for one in followed] == [True, False, False, True, again], "only what is trusted is carried on"


def photographs() -> list[Tensor]:
    """Two real ones, uint8 RGB (3, h, w)."""
    return [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in load_all(VALIDATION[:2])]


def test_true_flow_leaves_what_moves_out_and_zero_flow_the_difference() -> None:
    first, second = scene(0, 2, step=3)
    flow = torch.zeros(2, HEIGHT, WIDTH)
    still = warped_error(first, second)
    assert still == warped_error(first, second, flow)
    assert still == pytest.approx(float((first.float() - second.float()).abs().mean()))
    flow[0] = 3.0
    left = (second[:, :, -1:].float() - first[:, :, -3:].float()).abs().sum() / first.numel()  # what moved out
    assert warped_error(first, second, flow) == pytest.approx(float(left))
    assert warped_error(first, second, flow) < 0.2 * still


@pytest.mark.parametrize("step", [1e3, 1e9, -1e3])
def test_pointing_out_of_the_frame_is_worse_than_no_flow(step: float) -> None:
    first, second = scene(0, 2)
    flow = torch.zeros(2, HEIGHT, WIDTH)
    still = warped_error(first, second)
    for part in (flow[0], flow[1, : HEIGHT // 4]):
        part += step
        assert warped_error(first, second, flow) > still
        part.zero_()
    assert warped_error(first, second, torch.full_like(flow, torch.nan)) == torch.inf


def test_a_solve_that_went_wrong_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = scene(0, 4)
    errors = chain([0.0, 0.0, 1.0], repeat(0.0))  # the second flow's is above that of zero flow
    monkeypatch.setattr("deq_flow.demo.follow.warped_error", lambda *_: next(errors))
    monkeypatch.setattr("deq_flow.demo.follow.VISIBLE", 0.0)
    followed = list(follow(estimator(), pictures, start="reuse", far=None))
    assert [one.start for one in followed] == ["cold", "cold", "reuse"]
    (_, alone) = follow(estimator(), pictures[:3])
    assert torch.equal(followed[1].flow, alone.flow)
    assert followed[1].iterations > alone.iterations, "both solves count"
    assert followed[1].warning is None


def test_what_explains_its_frames_worse_than_no_motion_is_marked_and_not_carried_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = iter([1.0, 0.0, 0.0, 0.0])  # the first flow's is above that of zero flow
    monkeypatch.setattr("deq_flow.demo.follow.warped_error", lambda *_: next(errors))
    monkeypatch.setattr("deq_flow.demo.follow.VISIBLE", 0.0)
    first, second = follow(estimator(), scene(0, 3), start="reuse", far=None)
    assert (first.warning, second.warning) == ("worse than no motion", None)
    assert second.cold


def test_a_backward_flow_that_is_wrong_is_marked_and_told_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([0.0, 0.0, 1.0, 0.0])  # forwards, then backwards above that of zero flow
    monkeypatch.setattr("deq_flow.demo.follow.warped_error", lambda *_: next(errors))
    monkeypatch.setattr("deq_flow.demo.follow.VISIBLE", 0.0)
    summary = Summary()
    for one in follow(estimator(), scene(0, 2), far=None, backward=True):
        summary.add(one)
    (row,) = summary.rows
    assert (row["warning"], row["backward"]["warning"]) == (None, "worse than no motion")
    (said,) = summary.warnings(None)
    assert said.startswith("1 of 1 backward flows are unreliable (to frame 1)")


@pytest.mark.usefixtures("trusting")
def test_an_unrolled_network_carries_its_flow_along() -> None:
    estimate = estimator("raft-mini", steps=3)
    pictures = scene(0, 3)
    first, second = follow(estimate, pictures, start="warm")
    assert (first.cold, second.cold) == (True, False)
    assert (second.iterations, second.residual) == (3, None)
    afresh = estimate(pictures[1][None], pictures[2][None]).flow[0]
    assert not torch.equal(second.flow, afresh)


def test_frames_of_a_long_video_do_not_pile_up(tmp_path: Path) -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def long() -> Iterator[Tensor]:
        nonlocal most
        for time in range(30):
            frame = torch.full((3, 16, 16), time, dtype=torch.uint8)
            alive.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in alive))
            yield frame

    run(network(), Frames("long", None, None, long), DemoConfig(steps=1), out=tmp_path / "out")
    assert len(alive) == 30
    assert most <= 4, "the pair, the estimate before it, and the frame that is being read"


def test_a_reduced_frame_gives_flow_in_the_units_of_the_whole_one() -> None:
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    small = reduced(image, 50)
    assert small.shape == (3, 30, 50)
    assert reduced(image, 100) is image
    flow = torch.stack([torch.full((30, 50), 1.5), torch.full((30, 50), -2.0)])
    whole = enlarged(flow, image)
    assert whole.shape == (2, 60, 100)
    assert torch.allclose(whole, torch.tensor([3.0, -4.0])[:, None, None].expand_as(whole))


def test_the_network_sees_reduced_frames() -> None:
    pictures = scene(0, 2)
    (one,) = follow(estimator(), pictures, side=24)
    (small,) = follow(estimator(), [reduced(frame, 24) for frame in pictures])
    assert torch.equal(one.flow, enlarged(small.flow, pictures[0]))


def test_a_narrow_frame_keeps_the_pixels_that_a_network_needs() -> None:
    assert reduced(torch.zeros(3, 40, 2000, dtype=torch.uint8), 288).shape == (3, 16, 800)
    assert reduced(torch.zeros(3, 16, 2000, dtype=torch.uint8), 288).shape == (3, 16, 2000)


def test_the_colour_scale_rises_at_once_and_falls_slowly() -> None:
    still, fast = torch.zeros(2, 8, 8), torch.full((2, 8, 8), 6.0)
    scale = Scale().after(still)
    assert scale.speed == 1.0, "noise of a still video stays pale"
    scale = scale.after(fast)
    assert scale.speed == pytest.approx(72**0.5)
    assert scale.after(still).speed == pytest.approx(0.97 * 72**0.5)


@pytest.mark.parametrize(("warning", "after"), [(None, 0.97 * 72**0.5), ("scene cut", 1.0)])
def test_a_marked_flow_has_no_say_in_the_colours_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warning: Reason | None, after: float
) -> None:
    speeds: list[float] = []
    colours = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    monkeypatch.setattr("deq_flow.demo.outputs.flow_to_rgb", lambda _, speed: (speeds.append(speed), colours)[1])
    one = replace(an_estimate(), flow=torch.full((2, HEIGHT, WIDTH), 6.0), warning=warning)
    calm = replace(one, flow=torch.zeros(2, HEIGHT, WIDTH), warning=None)
    views: list[Product] = ["colour", "side-by-side"]
    with outputs(tmp_path, views, fps=25, container=".avi", single=False, max_speed=None) as add:
        add(one)
        add(calm)
    assert speeds == pytest.approx([72**0.5, after]), "and are made once for all views"


@pytest.mark.parametrize("unknown", [torch.nan, torch.inf, 1e10])
def test_unknown_motion_has_no_arrow_and_no_say_in_the_scale(unknown: float) -> None:
    flow = torch.full((2, 16, 16), unknown)
    image = torch.full((3, 16, 16), 100, dtype=torch.uint8)
    assert torch.equal(with_arrows(image, flow), image)
    assert Scale().after(flow).speed == 1.0
    flow[:, 0, :8] = 6.0
    assert Scale().after(flow).speed == pytest.approx(72**0.5)


def test_arrows_point_along_the_motion() -> None:
    image = torch.full((3, 16, 16), 100, dtype=torch.uint8)
    flow = torch.zeros(2, 16, 16)
    assert torch.equal(with_arrows(image, flow), image), "what stands still has no arrow"
    flow[0, 4, 4] = 8.0
    changed = (with_arrows(image, flow) != image).any(dim=0)
    assert changed[4, 4:12].all()
    assert not changed[12:].any()
    assert not changed[:, :2].any()


def an_estimate() -> Estimate:
    """Of nothing in particular."""
    first, second = scene(0, 2)
    return Estimate(first, second, torch.ones(2, HEIGHT, WIDTH), 1, None, None, (), "cold", 0.0, 0.0)


@pytest.mark.parametrize(("view", "width"), [("colour", 48), ("side-by-side", 96), ("arrows", 48), ("warped", 48)])
def test_views_have_the_height_of_the_frame(view, width: int) -> None:
    shown = picture(view, an_estimate(), lambda: flow_to_rgb(an_estimate().flow, 2.0))
    assert (shown.dtype, shown.shape) == (torch.uint8, (3, HEIGHT, width))


def test_a_video_becomes_videos_and_files_of_one_flow(tmp_path: Path) -> None:
    video_file.write(tmp_path / "in.mp4", scene(0, 5), 12.0)
    config = DemoConfig(
        products=("colour", "side-by-side", "arrows", "flo", "kitti", "npz"), steps=8, tolerance=1e-3, container=".mkv"
    )
    frames = video.frames(tmp_path / "in.mp4")
    values = run(network(), frames, config, out=tmp_path / "out")
    assert (values["estimates"], values["cold"], values["complete"]) == (4, 4, 1)
    for view, width in (("colour", WIDTH), ("side-by-side", 2 * WIDTH), ("arrows", WIDTH)):
        written = video.frames(tmp_path / "out" / f"{view}.mkv")
        assert (written.count, written.fps) == (4, 12.0)
        assert [tuple(picture.shape) for picture in written] == 4 * [(3, HEIGHT, width)]
    expected = list(follow(estimator(), frames))
    for number, one in enumerate(expected):
        assert torch.equal(read_flo(tmp_path / "out" / "flo" / f"{number:06d}.flo"), one.flow)
        with np.load(tmp_path / "out" / "npz" / f"{number:06d}.npz") as archive:
            assert np.array_equal(archive["flow"], one.flow.numpy())
        rounded, valid = read_kitti(tmp_path / "out" / "kitti" / f"{number:06d}.png")
        assert valid.all()
        assert (rounded - one.flow).abs().max() <= 1 / 128
    summary = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert summary["estimates"] == 4
    assert summary["iterations"] == np.mean([one.iterations for one in expected])
    residuals = [one.residual for one in expected if one.residual is not None]
    assert summary["residual"] == pytest.approx(sum(residuals) / 4)
    assert summary["warnings"] == sum(one.warning is not None for one in expected)
    assert summary["frames"] == [
        {
            "frame": number,
            "iterations": one.iterations,
            "residual": one.residual,
            "flow_residual": one.flow_residual,
            "start": "cold",
            "error": one.error,
            "still": one.still,
            "warning": one.warning,
        }
        for number, one in enumerate(expected, start=1)
    ]


def test_both_directions_are_followed_where_their_files_are_asked_for(tmp_path: Path) -> None:
    products: tuple[Product, ...] = ("flo", "backward", "occlusion", "confidence", "warped")
    config = DemoConfig(products=products, steps=8, tolerance=1e-3, container=".mkv", start="reuse")
    pictures = scene(0, 4)
    run(network(), as_frames(pictures, 4), config, out=tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "demo.json").read_text())
    warped = list(video.frames(tmp_path / "out" / "warped.mkv"))
    for number, (first, second) in enumerate(pairwise(pictures)):
        name = f"{number:06d}"
        forward = read_flo(tmp_path / "out" / "flo" / f"{name}.flo")
        backward = read_flo(tmp_path / "out" / "backward" / f"{name}.flo")
        (alone,) = follow(estimator(), [second, first])
        assert torch.equal(backward, alone.flow), "it begins from nothing, whatever is carried forwards"
        assert summary["frames"][number]["backward"]["iterations"] == alone.iterations
        hidden = read_mask(tmp_path / "out" / "occlusion" / f"{name}.png")
        assert torch.equal(hidden, occlusion(forward, backward))
        sure = read_mask(tmp_path / "out" / "confidence" / f"{name}.png")
        assert torch.equal(sure, confidence(forward, backward) > 0.5 / 255)
        if summary["frames"][number]["warning"] is None:
            assert torch.equal(warped[number], warped_back(second, forward).round().byte())


def test_a_network_without_a_residual_reports_none(tmp_path: Path) -> None:
    unrolled = network("raft-mini", SCALES)
    values = run(unrolled, as_frames(scene(0, 3), 3), DemoConfig(products=("flo",), steps=4), out=tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert summary["scales"]["coarsest"] == 32
    assert values["iterations"] == 5.0, "four, and four at half the size"
    assert "residual" not in values
    assert summary["residual"] is summary["frames"][0]["residual"] is None


def test_flows_that_are_not_to_be_trusted_are_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DemoConfig(products=("flo",))
    errors = iter([1.0, 2.0, 2.0, 1.0, 3.0, 1.0])
    monkeypatch.setattr("deq_flow.demo.follow.warped_error", lambda *_: next(errors))
    monkeypatch.setattr("deq_flow.demo.follow.VISIBLE", 0.0)
    values = run(network(), as_frames(scene(0, 4), 4), config, out=tmp_path / "out")
    assert values["warnings"] == 2
    said = capsys.readouterr().err
    assert "pictures: 2 of 3 flows marked `worse than no motion` (from frame 2, 3): zero flow explains" in said
    monkeypatch.setattr("deq_flow.demo.follow.warped_error", lambda *_: 1.0)
    assert run(network(), as_frames(scene(0, 4), 4), config, out=tmp_path / "out")["warnings"] == 0
    assert "marked" not in capsys.readouterr().err


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Makes some solves, counted from 0, end in flow that is not a number."""
    whole, calls = Estimator.__call__, iter(range(100))

    def diverge(lost: set[int]) -> None:
        def call(estimate: Estimator, *given: Tensor | None) -> FlowOutput:
            output = whole(estimate, *given)  # pyright: ignore[reportArgumentType]
            return replace(output, flow=torch.full_like(output.flow, torch.nan)) if next(calls) in lost else output

        monkeypatch.setattr(Estimator, "__call__", call)

    return diverge


def test_flows_that_are_not_numbers_are_marked_and_named_and_the_others_kept(
    tmp_path: Path, diverging: Callable[[set[int]], None]
) -> None:
    diverging({2, 3})
    products: tuple[Product, ...] = ("colour", "warped", "arrows", "flo", "kitti", "npz", "occlusion")
    config = DemoConfig(products=products, container=".mkv")
    with pytest.raises(
        NonFiniteError, match=r"^pictures, frame 2: the flow is not finite.*; the other 4 flows are in .*out$"
    ):
        run(network(), as_frames(scene(0, 6), 6), config, out=tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert (summary["estimates"], summary["complete"]) == (5, 1)
    assert [row["warning"] == "not finite" for row in summary["frames"]] == [False, True, False, False, False]
    assert summary["frames"][1]["error"] is None
    assert [len(list(video.frames(tmp_path / "out" / f"{view}.mkv"))) for view in products[:3]] == [5, 5, 5]
    assert (read_flo(tmp_path / "out" / "flo" / "000001.flo") == 1e10).all(), "Middlebury's mark of unknown motion"
    assert not read_kitti(tmp_path / "out" / "kitti" / "000001.png")[1].any()
    assert read_mask(tmp_path / "out" / "occlusion" / "000001.png").all()


@pytest.mark.usefixtures("trusting")
def test_a_flow_that_is_not_a_number_is_sought_again_from_nothing(diverging: Callable[[set[int]], None]) -> None:
    diverging({1})
    followed = list(follow(estimator(), scene(0, 4), start="reuse", far=None))
    assert [one.start for one in followed] == ["cold", "cold", "reuse"]
    assert all(one.flow.isfinite().all() for one in followed)


def test_where_no_flow_is_a_number_nothing_is_left(tmp_path: Path, diverging: Callable[[set[int]], None]) -> None:
    diverging({0, 1})
    with pytest.raises(NonFiniteError, match=r"^pictures, frame 1, 2: the flow is not .*no other flow was found$"):
        run(network(), as_frames(scene(0, 3), 3), DemoConfig(), out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("trusting")
def test_two_images_become_a_picture(tmp_path: Path) -> None:
    for name, frame in zip("ab", scene(0, 2), strict=True):
        write_image(tmp_path / f"{name}.png", frame)
    frames = video.frames(video.source_of([str(tmp_path / "a.png"), str(tmp_path / "b.png")]))
    run(network(), frames, DemoConfig(), out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        RECORD,
        "colour.png",
        "demo.json",
        "side-by-side.png",
    ]
    assert torch.equal(read_image(tmp_path / "out" / "side-by-side.png")[:, :, :WIDTH], scene(0, 1)[0])


def test_an_interrupt_keeps_what_was_done_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> Iterator[Tensor]:
        yield from scene(0, 4)
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(network(), Frames("camera 0", None, None, interrupted), DemoConfig(), out=out)
    assert capsys.readouterr().err.endswith(f"camera 0: ended early; its first 3 flows are in {out}\n")
    summary = json.loads((out / "demo.json").read_text())
    assert (summary["estimates"], summary["complete"], len(summary["frames"])) == (3, 0, 3)
    assert len(list(video.frames(tmp_path / "out" / "colour.mp4"))) == 3
    assert len(list(video.frames(tmp_path / "out" / "side-by-side.mp4"))) == 3


def test_an_interrupt_before_anything_was_done_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Tensor]:
        yield scene(0, 1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(network(), Frames("camera 0", None, None, interrupted), DemoConfig(), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_frame_leaves_the_earlier_output_and_what_was_done_before_it_beside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(network(), as_frames(scene(0, 3), 3), DemoConfig(products=("flo",)), out=out)
    folder = tmp_path / "in"
    for number, frame in enumerate(scene(1, 4)):
        write_image(folder / f"{number}.png", frame)
    (folder / "3.png").write_bytes(b"damaged")
    with pytest.raises(FileFormatError, match=r"3\.png: expected .*; what was measured before it is in .*out-partial$"):
        run(network(), video.frames(folder), DemoConfig(products=("flo", "colour")), out=out)
    assert sorted(path.name for path in (tmp_path / "out-partial" / "flo").iterdir()) == ["000000.flo", "000001.flo"]
    assert json.loads((tmp_path / "out-partial" / "demo.json").read_text())["complete"] == 0
    assert len(list(video.frames(tmp_path / "out-partial" / "colour.mp4"))) == 2
    (first, _) = follow(Estimator(network(), DemoConfig().inference()), scene(0, 3))
    assert torch.equal(read_flo(out / "flo" / "000000.flo"), first.flow)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out-partial"]


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_video_is_as_long_as_it_is_whatever_it_announces(tmp_path: Path, count: int) -> None:
    config = DemoConfig(products=("colour",), container=".mkv")
    run(network(), as_frames(scene(0, 4), count), config, out=tmp_path / "o")
    assert len(list(video.frames(tmp_path / "o" / "colour.mkv"))) == 3


def test_a_source_that_ends_before_its_announced_frames_is_remarked_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DemoConfig(products=("flo",))
    run(network(), as_frames(scene(0, 3), 3), config, out=tmp_path / "out")
    said = capsys.readouterr().err
    assert "damaged" not in said
    assert re.match(r"2 of 2 frames, [^:]+: iterations \S+, mean \S+, residual \S+\n", said), "no terminal"
    run(network(), as_frames(scene(0, 3), 6), config, out=tmp_path / "out")
    assert "pictures: expected 6 frames, of which 3 could be decoded: it may be damaged" in capsys.readouterr().err


def test_a_folder_of_anything_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"holds thesis\.tex, which this program did not write"):
        run(network(), as_frames(scene(0, 2), 2), DemoConfig(), out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("count", [1, None])
def test_one_frame_is_too_few(tmp_path: Path, count: int | None) -> None:
    with pytest.raises(VideoError, match="pictures: expected at least two frames, got 1"):
        run(network(), as_frames(scene(0, 1), count), DemoConfig(), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_tiny_frames_are_refused(tmp_path: Path) -> None:
    small = [frame[:, :12] for frame in scene(0, 2)]
    with pytest.raises(VideoError, match="expected frames of 16 to 32766 pixels a side, got 48x12"):
        run(network(), as_frames(small, 2), DemoConfig(), out=tmp_path / "out")


def test_the_number_of_frames_can_be_limited(tmp_path: Path) -> None:
    values = run(network(), as_frames(scene(0, 6), 6), DemoConfig(frames=3), out=tmp_path / "out")
    assert values["estimates"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": 8},
        {"fps": 0.0},
        {"fps": math.inf},
        {"max_speed": -1.0},
        {"max_speed": math.inf},
        {"frames": 1},
        {"steps": 0},
        {"tolerance": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: expected"):
        DemoConfig(**wrong)
