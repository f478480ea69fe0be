"""Where the next frame's solve starts."""

import pytest
import torch

import deq_core as deq


def zeros(batch=2, width=3):
    return torch.zeros(batch, width), torch.zeros(batch, 2, width, dtype=torch.float64)


def test_the_first_frame_starts_from_the_fallback():
    fallback = zeros()
    assert deq.nn.warm_start(None, fallback) is fallback


def test_the_previous_state_is_used_detached_and_in_the_fallbacks_dtype():
    previous = (torch.ones(2, 3, dtype=torch.float64, requires_grad=True), torch.full((2, 2, 3), 2.0))
    start = deq.nn.warm_start(previous, zeros())
    assert [leaf.dtype for leaf in start] == [torch.float32, torch.float64]
    assert not any(leaf.requires_grad for leaf in start)
    assert torch.equal(start[0], torch.ones(2, 3))
    assert torch.equal(start[1], torch.full((2, 2, 3), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("previous", [zeros(batch=3), zeros(width=4)])
def test_a_change_of_size_starts_afresh(previous):
    fallback = zeros()
    assert deq.nn.warm_start(previous, fallback) is fallback


def test_a_sample_that_failed_starts_afresh_alone():
    hidden, flow = torch.ones(2, 3), torch.ones(2, 2, 3)
    flow[0, 1, 2] = torch.inf
    start = deq.nn.warm_start((hidden, flow), zeros())
    assert torch.equal(start[0], torch.tensor([[0.0] * 3, [1.0] * 3]))
    assert start[1][0].eq(0).all()
    assert start[1][1].eq(1).all()


def test_another_structure_is_refused():
    with pytest.raises(TypeError, match="trees of the same structure"):
        deq.nn.warm_start(torch.zeros(2, 3), zeros())


def test_a_warm_start_needs_fewer_steps():
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)) * 0.25
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))

    def solve(x, previous):
        start = deq.nn.warm_start(previous, torch.zeros_like(x))
        return deq.fixed_point(lambda z: torch.tanh(z @ weight + x), start)

    first = solve(x, None)
    cold, warm = solve(x + 0.01, None), solve(x + 0.01, first.value)
    assert (warm.steps < cold.steps).all()
    torch.testing.assert_close(warm.value, cold.value, rtol=0, atol=1e-3)


def frames(step, names):
    """A slowly moving problem for each name."""
    return torch.stack([torch.linspace(0, 1, 6) * len(name) + 0.01 * step for name in names])


def solve_frame(x, state):
    start = deq.nn.warm_start(state, torch.zeros_like(x))
    return deq.fixed_point(lambda z: torch.tanh(0.8 * z.roll(1, 1) + x), start, stop=deq.Stop(60, 1e-5))


def test_streams_keep_their_states_apart_whatever_the_batch():
    stream = deq.nn.Stream()
    assert stream.state(["a"]) is None
    solution = solve_frame(frames(0, ["a"]), None)
    for step, names in enumerate([["a", "bb"], ["bb", "ccc"], ["a"], ["ccc", "a", "bb"]]):
        x = frames(step, names)
        solution = solve_frame(x, stream.state(names))
        assert not stream.update(solution, names).any()
    state = stream.state(["ccc", "bb", "new"])
    torch.testing.assert_close(state[:2], solution.value[[0, 2]])
    assert state[2].isnan().all()
    cold = solve_frame(frames(4, ["a", "bb"]), None)
    warm = solve_frame(frames(4, ["a", "bb"]), stream.state(["a", "bb"]))
    assert (warm.steps < cold.steps).all()


def test_a_scene_cut_is_a_jump_of_the_first_residual():
    stream = deq.nn.Stream(cut=4.0)
    names = ["a", "bb"]
    for step in range(4):
        assert not stream.update(solve_frame(frames(step, names), stream.state(names)), names).any()
    x = frames(4, names)
    x[1] = -3 * x[1]
    cut = stream.update(solve_frame(x, stream.state(names)), names)
    assert cut.tolist() == [False, True]
    assert stream.state(["bb"]) is None
    assert stream.state(["a"]) is not None
    assert not stream.update(solve_frame(x, stream.state(names)), names).any()


def test_a_frame_that_was_repeated_is_no_measure_of_the_next():
    stream = deq.nn.Stream(cut=4.0)
    cuts = []
    for frame in (1.0, 1.0, 1.01, 1.02, 9.0):  # the second begins at its solution
        start = deq.nn.warm_start(stream.state(["video"]), torch.zeros(1, 3))
        target = torch.full((1, 3), frame)
        with torch.no_grad():
            solution = deq.fixed_point(lambda z, target=target: target, start, stop=deq.Stop(2, None))
        cuts.append(bool(stream.update(solution, ["video"])))
    assert cuts == [False, False, False, False, True]


def test_no_jump_is_looked_for_when_none_is_asked():
    stream = deq.nn.Stream(cut=None)
    for scale in (1, 1, 1, -100):
        assert not stream.update(solve_frame(scale * frames(0, ["a"]), stream.state(["a"])), ["a"]).any()


def solve_once(x, state):
    """One evaluation a frame, whose relative residual is large in every frame."""
    start = deq.nn.warm_start(state, torch.zeros_like(x))
    return deq.fixed_point(lambda z: torch.tanh(0.8 * z.roll(1, 1) + x), start, stop=deq.Stop(1, None))


def test_a_level_sees_a_cut_that_no_factor_of_a_large_residual_reaches():
    by_factor, by_level = deq.nn.Stream(cut=4.0), deq.nn.Stream(cut=None, level=1.0)
    noise = torch.Generator().manual_seed(0)
    scene = 2 * torch.randn(1, 400, generator=noise)
    for step in range(6):
        x = scene + 0.7 * torch.randn(1, 400, generator=noise) if step < 5 else -scene
        seen = []
        for stream in (by_factor, by_level):
            solution = solve_once(x, stream.state(["a"]))
            seen.append(bool(stream.update(solution, ["a"])))
        assert seen == [False, step == 5], step
    assert 0.25 < by_factor.state_dict()["usual"]["a"] < 0.9
    assert by_level.state(["a"]) is None


def test_a_level_needs_no_history_and_lets_a_first_frame_be():
    stream = deq.nn.Stream(cut=None, level=1.0)
    x = torch.linspace(1, 2, 6)[None]
    cold = solve_once(x, stream.state(["a"]))
    assert float(cold.trace[0]) == 1
    assert not stream.update(cold, ["a"]).any()
    assert stream.update(solve_once(-x, stream.state(["a"])), ["a"]).all()


def test_another_size_is_no_cut():
    stream = deq.nn.Stream(cut=2.0, level=1.0)
    for step in range(3):
        stream.update(solve_frame(frames(step, ["a"]), stream.state(["a"])), ["a"])
    larger = torch.ones(1, 9)
    assert not stream.update(solve_frame(larger, stream.state(["a"])), ["a"]).any()
    assert stream.state(["a"]).shape == (1, 9)


def test_a_stream_that_changed_its_size_starts_afresh():
    stream = deq.nn.Stream()
    stream.update(solve_frame(frames(0, ["a", "bb"]), None), ["a", "bb"])
    larger = torch.zeros(1, 9)
    assert deq.nn.warm_start(stream.state(["a"]), larger) is larger
    stream.update(solve_frame(larger, None), ["a"])
    state = stream.state(["a", "bb"])
    assert state.shape == (2, 9)
    assert state[0].isfinite().all()
    assert state[1].isnan().all()


def test_a_failed_sample_is_forgotten():
    stream = deq.nn.Stream()
    stream.update(solve_frame(frames(0, ["a"]), None), ["a"])
    failed = deq.fixed_point(lambda z: z * torch.nan, torch.zeros(1, 6), on_failure="ignore")
    assert not stream.update(failed, ["a"]).any()
    assert stream.state(["a"]) is None


def test_streams_are_saved_and_restored(tmp_path):
    stream, restored = deq.nn.Stream(), deq.nn.Stream()
    names = ["a", "bb"]
    for step in range(2):
        stream.update(solve_frame(frames(step, names), stream.state(names)), names)
    torch.save(stream.state_dict(), tmp_path / "stream.pt")
    restored.load_state_dict(torch.load(tmp_path / "stream.pt", weights_only=True))
    assert torch.equal(restored.state(names), stream.state(names))
    assert restored.state_dict()["usual"] == stream.state_dict()["usual"]
    restored.forget("a")
    assert restored.state(["a"]) is None
    assert stream.state(["a"]) is not None


@pytest.mark.parametrize("names", [["a"], ["a", "a"]])
def test_every_sample_needs_a_name_of_its_own(names):
    with pytest.raises(ValueError, match="expected 2 different names"):
        deq.nn.Stream().update(solve_frame(frames(0, ["a", "bb"]), None), names)


@pytest.mark.parametrize("options", [{"cut": 1.0}, {"memory": 1.0}, {"level": 0.0}])
def test_impossible_settings_fail_at_construction(options):
    with pytest.raises(ValueError, match="must be"):
        deq.nn.Stream(**options)
