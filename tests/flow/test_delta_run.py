"""The delta rule on flow networks: what is measured, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import deq_core as deq
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.delta import Rule, Variant
from deq_core.experiment.config.layer import Solver, StopConfig
from deq_core.experiment.study.delta import RunConfig, add, sweep_configs
from deq_core.experiment.tables import numbers
from deq_flow import build
from deq_flow.data.samples import FlowSample
from deq_flow.models import DEQFlow
from deq_flow.studies.delta.changes import Changes
from deq_flow.studies.delta.run import Prices, Run, Start
from deq_flow.studies.delta.sweep import Example, Part, Sweep, groups, sweep

SOLVERS = {
    "km": deq.FixedPointIteration(damping=0.1),
    "anderson": deq.Anderson(window=3),
    "broyden": deq.Broyden(),
}
STEPS = 5
SET = "sintel_clean"  # for its protocol
ALL = Part(starts=("cold", "reuse", "stream"))
COLD = {SET: Part()}


@dataclass(frozen=True)
class Pairs:
    """Pairs of no video."""

    samples: Sequence[FlowSample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> FlowSample:
        return self.samples[index]


class Videos(Pairs):
    """Two videos, of three pairs and of two."""

    def sequences(self) -> dict[str, range]:
        return {"long": range(3), "short": range(3, 5)}


def sample(number: int, *, height: int = 32) -> FlowSample:
    generator = torch.Generator().manual_seed(number)
    images = torch.randint(0, 256, (2, 3, height, 40), dtype=torch.uint8, generator=generator)
    flow = torch.randn(2, height, 40, generator=generator)
    valid = torch.ones(height, 40, dtype=torch.bool)
    return FlowSample(images[0], images[1], flow, valid, f"pair {number}")


@pytest.fixture(scope="module")
def model() -> DEQFlow:
    torch.manual_seed(0)
    narrow = dict.fromkeys(("features", "hidden", "context", "motion", "head", "mask"), 8)
    pairs = dict.fromkeys(("correlation_widths", "flow_widths"), (8, 8))
    network = build("deq-flow-mini", stages=(8, 8, 8), **narrow, **pairs)
    assert isinstance(network, DEQFlow)
    return network.double().eval()


def settings(thresholds: tuple[float, ...] = (0.05,), **changes) -> Sweep:
    variant = Variant(
        solver=SOLVERS["km"],
        stop=StopConfig(max_steps=STEPS),
        rule=Rule(thresholds=thresholds),
    )
    example = Example(set=SET, variant="km", threshold=thresholds[-1])
    config = Sweep(sets={SET: ALL}, variants={"km": variant}, steps=(2, STEPS), example=example)
    return replace(config, **changes)


def found(runs: list[Run], start: str, threshold: float | None, steps: int = STEPS) -> Run:
    (run,) = (
        run
        for run in runs
        if (run.config.start, run.config.threshold, run.config.stop.max_steps) == (start, threshold, steps)
    )
    return run


def errors(run: Run) -> list[float]:
    return [metrics["epe"] for metrics in run.metrics]


def swept(model: DEQFlow, pairs: Pairs, config: Sweep) -> list[Run]:
    part = config.sets[SET]
    runs = [Run(model, each, config.skip) for each in sweep_configs(config.variants, config.steps, part.starts)]
    sweep(model, runs, SET, pairs, part, batch_size=config.batch_size)
    return runs


def densely(model: DEQFlow, pairs: Pairs, solver: Solver, start: Start) -> Run:
    """A dense solve of as many steps."""
    run = Run(model, RunConfig("dense", solver, deq.Stop(STEPS, None), start), ())
    sweep(model, [run], SET, pairs, ALL)
    return run


@pytest.mark.parametrize("solver", SOLVERS)
def test_threshold_zero_is_the_dense_solve_whatever_the_solver_and_start(model: DEQFlow, solver: str) -> None:
    config, pairs = settings(steps=(STEPS,)), Videos([sample(number) for number in range(5)])
    config = replace(config, variants={"km": replace(config.variants["km"], solver=SOLVERS[solver])})
    runs = swept(model, pairs, config)
    dense: dict[str, Run] = {start: densely(model, pairs, SOLVERS[solver], start) for start in ("cold", "reuse")}
    for start in ("cold", "reuse", "stream"):
        other = dense["reuse" if start == "stream" else start]
        assert errors(found(runs, start, 0.0)) == pytest.approx(errors(other), rel=1e-6)
        assert len(errors(other)) == 5
        assert found(runs, start, 0.0).row(SET)["macs_dense"] == pytest.approx(other.row(SET)["macs_dense"])


def test_a_reused_state_is_that_of_the_pair_before(model: DEQFlow) -> None:
    pairs = Videos([sample(number) for number in range(5)])
    run = densely(model, pairs, SOLVERS["km"], "reuse")
    state, expected = None, []
    with torch.no_grad():
        for index in range(3):
            pair = model.encode(pairs[index].image1[None], pairs[index].image2[None])
            start = model.start(pair, state)
            stop = deq.Stop(STEPS, None)
            state = deq.fixed_point(model.map(pair), start, solver=SOLVERS["km"], stop=stop).value
            flow = pair.finish(state[1], state[0])[0]
            expected.append(float((flow - pairs[index].flow).norm(dim=0).mean()))
    by_name = dict(zip(run.names, errors(run), strict=True))
    assert [by_name[f"pair {index}"] for index in range(3)] == pytest.approx(expected, rel=1e-5)


def test_scenes_solved_together_are_solved_as_alone(model: DEQFlow) -> None:
    pairs = Videos([sample(number) for number in range(5)])
    apart, together = (
        swept(model, pairs, settings(batch_size=size, sets={SET: replace(ALL, frames=2)}, steps=(STEPS,)))
        for size in (1, 2)
    )
    for left, right in zip(apart, together, strict=True):
        errors_apart, errors_together = (dict(zip(run.names, errors(run), strict=True)) for run in (left, right))
        assert errors_apart == pytest.approx(errors_together, rel=1e-6)
        assert left.row(SET)["macs_sparse"] == right.row(SET)["macs_sparse"]


class Products(TorchFunctionMode):
    """Counts the multiply-accumulates of every convolution and matrix product within."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.conv2d:
            self.macs += result.numel() * args[1][0].numel()
        if func is torch.Tensor.matmul:
            self.macs += result.numel() * args[0].shape[-1]
        return result


def test_work_is_that_of_the_convolutions(model: DEQFlow) -> None:
    block, cells = model.update_block, 2 * 5 * 7
    prices = Prices.of(block, ("flow_head.conv2",))
    size = model.size
    hidden, context, window, flow = (
        torch.zeros(2, channels, 5, 7).double() for channels in (size.hidden, size.context, size.window, 2)
    )
    with torch.no_grad():
        with Products() as straight:
            block(hidden, context, window, flow)
        with Products() as once:
            step = block.bind(context)
        with Products() as each:
            step(hidden, window, flow)
    assert straight.macs == cells * prices.block
    assert once.macs == cells * prices.context
    assert each.macs == cells * (prices.block - prices.context)
    assert prices.left == 2 * size.head * 9


def test_rows_add_up(model: DEQFlow) -> None:
    runs = swept(model, Videos([sample(number) for number in range(5)]), settings(sets=COLD, steps=(STEPS,)))
    run = found(runs, "cold", 0.05)
    whole, evaluations, layers = run.row(SET), run.by_evaluation(), run.by_layer()
    assert numbers(evaluations, "evaluation") == list(range(1, STEPS + 1))
    for column in ("macs_dense", "macs_sparse", "macs_pixels", "macs_tiles", "release_sparse"):
        assert sum(numbers(evaluations, column)) == pytest.approx(whole[column])
    left = run.prices.left * run.evaluated
    assert sum(numbers(layers, "macs_sparse")) + left == pytest.approx(whole["macs_sparse"])
    assert whole["macs_repeated"] == run.prices.block * run.evaluated
    assert run.evaluated == 5 * STEPS * 8 * 10
    hoisted = run.evaluated * (run.prices.block - run.prices.context) + 5 * 8 * 10 * run.prices.context
    assert whole["macs_dense"] == pytest.approx(hoisted)
    sparse, pixels, tiles = (
        numbers([whole], "macs_sparse") + numbers([whole], "macs_pixels") + numbers([whole], "macs_tiles")
    )
    assert sparse < pixels <= tiles <= hoisted
    assert numbers(evaluations, "macs_saved")[0] == 0  # the first evaluation is dense
    for row in (whole, *evaluations, *layers):
        elements, pixels, tiles = (numbers([row], f"{part}_skipped")[0] for part in ("elements", "pixels", "tiles"))
        assert elements >= pixels >= tiles - 1e-12


def test_a_refresh_computes_the_context_once_a_solve_too(model: DEQFlow) -> None:
    config = settings(sets=COLD)
    rule = replace(config.variants["km"].rule, refresh_every=1)
    config = replace(config, variants={"km": replace(config.variants["km"], rule=rule)})
    run = found(swept(model, Pairs([sample(0)]), config), "cold", 0.05)
    assert numbers([run.row(SET)], "macs_saved")[0] == pytest.approx(0), "every evaluation is dense"


def test_a_larger_threshold_saves_more_and_an_infinite_one_all_but_the_first_evaluation(model: DEQFlow) -> None:
    config = settings((0.01, 0.1, 1e9), sets=COLD)
    runs = swept(model, Pairs([sample(number) for number in range(2)]), config)
    saved = numbers([found(runs, "cold", threshold).row(SET) for threshold in (0.0, 0.01, 0.1, 1e9)], "macs_saved")
    assert saved == sorted(saved)
    assert len(set(saved)) == 4
    run = found(runs, "cold", 1e9)
    later = (STEPS - 1) * (run.prices.block - run.prices.context)  # evaluations but the first, which is dense
    left = run.prices.left * (STEPS - 1)
    assert saved[-1] == pytest.approx((later - left) / (later + run.prices.block))


def test_a_still_video_costs_a_stream_next_to_nothing_after_its_first_pair(model: DEQFlow) -> None:
    still = [replace(sample(0), name=f"pair {number}") for number in range(5)]
    one = Part(starts=("reuse", "stream"), sequences=1)
    runs = swept(model, Videos(still), settings(sets={SET: one}, steps=(STEPS,)))
    reuse, stream = (numbers([found(runs, start, 0.05).row(SET)], "macs_saved")[0] for start in ("reuse", "stream"))
    assert stream > reuse  # whose first evaluation of every pair is dense
    first = found(runs, "stream", 0.05).by_evaluation()[:1]
    assert numbers(first, "macs_saved")[0] > 0


def test_threshold_0_is_measured_once_for_each_solver_and_start(model: DEQFlow) -> None:
    variants = settings().variants
    twice = sweep_configs({**variants, "again": variants["km"]}, (2, STEPS), ALL.starts)
    asked = [(case.start, case.threshold, case.stop.max_steps) for case in twice if case.threshold == 0]
    assert len(asked) == len(set(asked)) == 2 * 3
    with pytest.raises(ValueError, match=r"expected thresholds above 0.*max_steps among `steps`.*\[2\], got 5"):
        sweep_configs(variants, (2,), ALL.starts)
    with pytest.raises(ConfigError, match="single pairs of sintel_clean start cold, got cold, reuse, stream"):
        swept(model, Pairs([sample(0)]), settings())


def test_a_group_holds_scenes_of_one_size_and_length() -> None:
    pairs = Pairs([sample(0), sample(1), sample(2, height=48), sample(3)])
    assert list(groups(pairs, Part(), 2)) == [[range(1), range(1, 2)], [range(2, 3)], [range(3, 4)]]
    videos = Videos([sample(number) for number in range(5)])
    assert list(groups(videos, ALL, 2)) == [[range(3)], [range(3, 5)]]
    assert list(groups(videos, replace(ALL, frames=2), 2)) == [[range(2), range(3, 5)]]
    assert list(groups(videos, replace(ALL, sequences=1), 2)) == [[range(3)]]


def test_changes_are_counted_by_element_pixel_and_tile() -> None:
    changes = Changes(0.5)
    state = torch.zeros(1, 2, 9, 8)
    changes.see(state)
    moved = state.clone()
    moved[0, 0, 0, 0], moved[0, 1, 0, 1], moved[0, 1, 8, 7] = 1.0, 0.5, -1.0
    changes.see(moved)
    first, second = changes.counts
    assert first.tolist() == [144, 144, 72, 72, 2, 2]
    assert second.tolist() == [144, 2, 72, 2, 2, 2]
    assert changes.maps[1][0, 0, :2].tolist() == [0.5, 0.0]


def test_tables_of_different_lengths_are_added() -> None:
    total: Tensor | None = None
    for length in (2, 3, 1):
        total = add(total, torch.ones(length, 4))
    assert total is not None
    assert total[:, 0].tolist() == [3, 2, 1]


def test_an_example_that_is_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="example: expected a set, a variant and one of its thresholds"):
        settings(example=Example(set=SET, variant="km", threshold=0.3))
    with pytest.raises(ValueError, match="thresholds: expected numbers of at least 0"):
        Rule(thresholds=(-1.0,))


def test_what_is_not_a_number_has_changed() -> None:
    changes = Changes(0.5)
    for value in (0.0, torch.nan, torch.nan):
        changes.see(torch.full((1, 2, 3, 3), value))
    assert all(share.eq(1).all() for share in changes.maps)
