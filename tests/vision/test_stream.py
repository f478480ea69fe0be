"""Streams: each begins where it ended, is what it is alone, costs what was asked for, and knows a cut."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import deq_core as deq
from deq_vision import MDEQ, Architecture, Classification, Detection, Equilibrium, Segmentation
from deq_vision.streaming.stream import StreamDEQ
from deq_vision.windows import padded

PLAIN = deq.FixedPointIteration()
SIZE = Architecture(
    channels=(8, 16),
    expansion=2,
    halvings=1,
    injection="all",
    injection_gain=5.0,
    output_affine=True,
    output_gain=0.5,
    initialisation="default",
    head=Segmentation(classes=3),
)
HEADS = {
    "segment": Segmentation(classes=3),
    "classify": Classification(channels=(4, 8), final=16, classes=5),
    "detect": Detection(channels=8, classes=3),
    "features": None,
}


def model(head: str = "segment", solver: deq.Solver = PLAIN, numerics: str = "core") -> MDEQ:
    """A small model in float64 that contracts."""
    equilibrium = Equilibrium(solver=solver, stop=deq.Stop(200, 1e-11), numerics=numerics)  # pyright: ignore[reportArgumentType]
    made = MDEQ(replace(SIZE, head=HEADS[head]), equilibrium).double().eval()
    injected = made.cell.get_submodule("branches.0.norm2")
    for part in (made.cell.branches, made.cell.fuse):
        for norm in part.modules():
            if isinstance(norm, nn.GroupNorm) and norm is not injected:
                nn.init.constant_(norm.weight, 0.2)
                nn.init.normal_(norm.bias)
    return made


def video(count: int, seed: int, size: tuple[int, int] = (16, 24)) -> list[Tensor]:
    """Frames (1, 3, h, w) that change little."""
    draws = torch.Generator().manual_seed(seed)
    still, moving = torch.randn(2, 1, 3, *size, generator=draws, dtype=torch.float64)
    return [still + 0.02 * time * moving for time in range(count)]


def exactly(steps: int) -> deq.Stop:
    return deq.Stop(max_steps=steps, tol=None)


@pytest.mark.parametrize("head", HEADS)
def test_a_frame_begins_where_the_last_one_ended(head: str) -> None:
    network = model(head)
    stream = StreamDEQ(network, exactly(2))
    state = None
    with torch.no_grad():
        for frame in video(3, 0):
            output = stream(frame)
            solution = network.solve(network.inject(frame), state, stop=exactly(2))
            state = solution.value
            assert all(torch.equal(a, b) for a, b in zip(output.state, state, strict=True))
            if network.head is None:
                assert output.logits is None
            else:
                assert output.logits is not None
                assert torch.equal(output.logits, network.head(state))


@pytest.mark.parametrize("solver", [PLAIN, deq.Broyden(), deq.Anderson()], ids=["plain", "broyden", "anderson"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_k_evaluations_are_k_calls_of_the_cell(solver: deq.Solver, steps: int) -> None:
    """Of released models too, whose own rules spend K + 1."""
    network = model(solver=solver, numerics="released")
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    network.cell.register_forward_hook(count)
    stream = StreamDEQ(network, exactly(steps))
    for frame in video(3, 0):
        before = calls
        output = stream(frame)
        assert calls - before == output.nfe == output.evaluations.item() == steps


def test_released_numerics_spend_one_more_and_find_the_same_with_one() -> None:
    network = model(solver=deq.Broyden())
    ours, theirs = (StreamDEQ(network, exactly(1), numerics=kind) for kind in ("core", "released"))
    for frame in video(3, 0):
        output, released = ours(frame), theirs(frame)
        assert (output.nfe, released.nfe, released.evaluations.item()) == (1, 2, 2)
        for a, b in zip(output.state, released.state, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="one stream at a time"):
        theirs(torch.cat(video(2, 0)), ("a", "b"))


def test_a_model_keeps_its_own_choices() -> None:
    network = model()
    own = network.equilibrium
    StreamDEQ(network, exactly(1), solver=deq.Anderson(), numerics="released")
    assert network.equilibrium is own


@pytest.mark.parametrize("stop", [exactly(2), deq.Stop(30, 1e-3)], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("first", [None, deq.Stop(12, 1e-6)], ids=["same", "more at first"])
def test_a_stream_is_what_it_is_alone(stop: deq.Stop, first: deq.Stop | None) -> None:
    """Streams begin, pause and end at different times, in changing order; one has a cut."""
    network = model(solver=deq.Broyden())
    videos = {name: video(6, seed) for seed, name in enumerate("abc")}
    videos["c"][3:] = video(3, 99)
    plan = ["a", "ab", "ba", "cab", "bc", "cba", "ca", "bc", "c"]

    together = StreamDEQ(network, stop, first=first, cut=3.0)
    alone = {name: StreamDEQ(network, stop, first=first, cut=3.0) for name in "abc"}
    at = dict.fromkeys("abc", 0)
    for names in plan:
        frames = [videos[name][at[name]] for name in names]
        batch = together(torch.cat(frames), tuple(names))
        for row, (name, frame) in enumerate(zip(names, frames, strict=True)):
            single = alone[name](frame)
            for many, one in zip(batch.state, single.state, strict=True):
                torch.testing.assert_close(many[row], one[0], rtol=0, atol=1e-11)
            assert batch.evaluations[row] == single.evaluations[0]
            assert batch.cold[row] == single.cold[0]
            torch.testing.assert_close(batch.residual[row], single.residual[0], rtol=1e-6, atol=1e-12)
            assert batch.logits is not None
            assert single.logits is not None
            torch.testing.assert_close(batch.logits[row], single.logits[0], rtol=0, atol=1e-10)
            if name == "c" and at[name] == 3:
                assert batch.cold[row], "another scene"
            at[name] += 1
            if at[name] == 6:
                together.end(name)
    assert set(at.values()) == {6}


def test_a_stream_that_ended_begins_anew() -> None:
    stream = StreamDEQ(model(), exactly(2))
    first, second = video(2, 0)
    begin = stream(first, ("a",))
    assert not stream(second, ("a",)).cold
    stream.end("a")
    again = stream(first, ("a",))
    assert again.cold
    assert torch.equal(again.state[0], begin.state[0])


def test_cold_frames_know_nothing_of_each_other() -> None:
    stream = StreamDEQ(model(), exactly(2), warm=False)
    first, second = video(2, 0)
    stream(first)
    assert torch.equal(stream(second).state[0], StreamDEQ(stream.model, exactly(2))(second).state[0])


def test_warm_frames_come_closer_than_cold_ones_with_as_many_evaluations() -> None:
    network = model()
    warm, cold, full = (
        StreamDEQ(network, exactly(2)),
        StreamDEQ(network, exactly(2), warm=False),
        StreamDEQ(network, deq.Stop(200, 1e-11), warm=False),
    )
    for index, frame in enumerate(video(6, 0)):
        near, far, target = (stream(frame).state[0] for stream in (warm, cold, full))
        if index >= 3:
            assert (near - target).norm() < 0.5 * (far - target).norm()


def test_adaptive_frames_take_what_they_need() -> None:
    stop = deq.Stop(50, 1e-5)
    stream = StreamDEQ(model(), stop)
    still, other = video(1, 0)[0], video(1, 9)[0]
    spent = [stream(frame) for frame in (still, still, other)]
    first, same, changed = (int(output.evaluations) for output in spent)
    assert same == 1, "nothing changed"
    assert changed > 2
    assert first > 2
    assert all(output.residual.item() <= 1e-5 for output in spent)


def test_a_scene_cut_begins_anew_within_the_frame() -> None:
    network = model()
    stream = StreamDEQ(network, exactly(3), first=exactly(9), cut=3.0)
    for frame in video(4, 0):
        stream(frame)
    after = video(1, 50)[0]
    output = stream(after)
    assert output.cold
    assert int(output.evaluations) == 3 + 9
    assert torch.equal(output.state[0], StreamDEQ(network, exactly(9))(after).state[0])
    assert not stream(after).cold


def test_another_size_begins_anew() -> None:
    network = model()
    stream = StreamDEQ(network, exactly(2), cut=3.0)
    for frame in video(4, 0):
        stream(frame)
    larger = video(1, 1, (24, 32))[0]
    output = stream(larger)
    assert output.cold
    assert int(output.evaluations) == 2, "which is no scene cut"
    assert torch.equal(output.state[0], StreamDEQ(network, exactly(2))(larger).state[0])


def test_states_are_not_changed_afterwards() -> None:
    stream = StreamDEQ(model(), exactly(2), first=exactly(3), cut=2.0)
    kept = []
    for frame in [*video(4, 0), *video(2, 50)]:
        output = stream(frame)
        kept.append((output, [z.clone() for z in output.state]))
    for output, copies in kept:
        assert all(torch.equal(a, b) for a, b in zip(output.state, copies, strict=True))


def test_what_cannot_be_is_refused() -> None:
    network = model()
    with pytest.raises(ValueError, match="call eval"):
        StreamDEQ(model().train(), exactly(1))
    with pytest.raises(ValueError, match="cut needs warm"):
        StreamDEQ(network, exactly(1), warm=False, cut=2.0)
    frame = video(1, 0)[0]
    for names in [("a",), ("a", "a"), ("a", "b", "c")]:
        with pytest.raises(ValueError, match="2 different names"):
            StreamDEQ(network, exactly(1))(torch.cat([frame, frame]), names)


def test_images_are_padded_below_and_to_the_right() -> None:
    image = torch.ones(1, 3, 5, 8)
    larger = padded(image, 4)
    assert larger.shape == (1, 3, 8, 8)
    assert torch.equal(larger[:, :, :5], image)
    assert larger[:, :, 5:].abs().sum() == 0
    assert torch.equal(padded(larger, 4), larger)


@pytest.mark.gpu
def test_streams_on_the_gpu_are_those_on_the_cpu() -> None:
    frames = [*video(4, 0), *video(2, 50)]
    outputs = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        stream = StreamDEQ(model().to(device), exactly(3), first=exactly(9), cut=3.0)
        pairs = [torch.cat([frame, other]) for frame, other in zip(frames, video(6, 1), strict=True)]
        outputs[device] = [stream(pair.to(device), ("a", "b")) for pair in pairs]
    for ours, theirs in zip(outputs["cpu"], outputs["cuda"], strict=True):
        torch.testing.assert_close(theirs.state[0].cpu(), ours.state[0], rtol=0, atol=1e-9)
        assert theirs.evaluations.tolist() == ours.evaluations.tolist()
        assert theirs.cold.tolist() == ours.cold.tolist()
