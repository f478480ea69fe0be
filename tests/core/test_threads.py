"""Solves in several threads are what each is alone, gradients included."""

import copy
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import deq_core as deq

WAIT = 20


@pytest.fixture
def switching():
    """Python changes threads as often as it can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def together(*jobs):
    """What each job returns, all run at once; the first error is raised."""
    barrier = threading.Barrier(len(jobs))

    def begin(job):
        barrier.wait(WAIT)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(begin, job) for job in jobs]]


class Cell(nn.Module):
    def __init__(self, seed, norm=deq.nn.weight_norm_):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        norm(self)
        self.x = torch.randn(2, 4)

    def forward(self, z):
        return torch.tanh(0.4 * self.second(torch.tanh(self.first(z))) + self.x)

    def gradients(self, adjoint):
        """Of every parameter, and the state."""
        solution = deq.fixed_point(
            self, torch.zeros(2, 4), adjoint=adjoint, stop=deq.Stop(20, 1e-6), on_failure="ignore"
        )
        found = torch.autograd.grad(solution.value.square().sum(), list(self.parameters()), allow_unused=True)
        assert all(gradient is not None for gradient in found), "a gradient was lost"
        return [solution.value.detach(), *found]

    @torch.no_grad()
    def infer(self):
        return [deq.fixed_point(self, torch.zeros(2, 4), stop=deq.Stop(20, 1e-6), on_failure="ignore").value]


def same(found, expected):
    return all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


@pytest.mark.parametrize("cached", [False, True], ids=["alone", "in torch's cached()"])
def test_a_weight_keeps_its_gradient_beside_inference_on_it(cached):
    cell, x = deq.nn.weight_norm_(nn.Linear(4, 4), length=0.5), torch.randn(2, 4)
    inside, go, done, end = (threading.Event() for _ in range(4))

    def serve():
        calls = []

        def f(z):
            calls.append(0)
            if len(calls) == 1:
                inside.set()
                go.wait(WAIT)
            y = torch.tanh(cell(z) + x)
            if len(calls) == 1:
                done.set()
                end.wait(WAIT)
            return y

        with torch.no_grad():
            if cached:
                with parametrize.cached():
                    f(x)
            else:
                deq.fixed_point(f, torch.zeros(2, 4), stop=deq.Stop(3, None))

    def f(z):
        if torch.is_grad_enabled() and not go.is_set():
            go.set()
            done.wait(WAIT)
        return torch.tanh(cell(z) + x)

    thread = threading.Thread(target=serve)
    thread.start()
    assert inside.wait(WAIT)
    solution = deq.fixed_point(f, torch.zeros(2, 4))
    end.set()
    thread.join()
    solution.value.sum().backward()
    found = cell.get_parameter("parametrizations.weight.original").grad
    cell.zero_grad()
    deq.fixed_point(lambda z: torch.tanh(cell(z) + x), torch.zeros(2, 4)).value.sum().backward()
    torch.testing.assert_close(found, cell.get_parameter("parametrizations.weight.original").grad)


def test_a_thread_within_a_solve_leaves_torchs_own_cache_alone():
    cell, x = deq.nn.weight_norm_(nn.Linear(4, 4), length=0.5), torch.randn(2, 4)
    original = cell.get_parameter("parametrizations.weight.original")
    inside, end = threading.Event(), threading.Event()

    def f(z):
        y = torch.tanh(cell(z) + x)
        inside.set()
        end.wait(WAIT)
        return y

    def serve():
        with torch.no_grad():
            deq.fixed_point(f, torch.zeros(2, 4), stop=deq.Stop(3, None))

    thread = threading.Thread(target=serve)
    thread.start()
    assert inside.wait(WAIT)
    for _ in range(2):
        with torch.no_grad(), parametrize.cached():
            seen = cell.weight
            torch.testing.assert_close(seen, 0.5 * original / original.norm(dim=1, keepdim=True))
            assert cell.weight is seen
        with torch.no_grad():
            original.add_(torch.rand(4, 4))
    end.set()
    thread.join()
    assert not parametrize._cache
    assert parametrize._cache_enabled == 0


ADJOINTS = [deq.Implicit(), deq.Phantom(2), deq.Unrolled(), deq.Reversible(on_failure="ignore"), deq.JacobianFree()]


@pytest.mark.parametrize("shared", [False, True], ids=["a model each", "one model"])
@pytest.mark.parametrize("norm", [deq.nn.weight_norm_, deq.nn.spectral_norm_], ids=["weight norm", "spectral norm"])
def test_threads_find_what_each_finds_alone(switching, shared, norm):
    threads, solves = 8, 12
    cells = [Cell(0 if shared else seed, norm) for seed in range(threads)]
    if norm is deq.nn.spectral_norm_:
        cells = [cell.eval() for cell in cells]  # in training mode a solve moves the estimate of the next
    cells = [cells[0]] * threads if shared else cells

    def work(number):
        cell = cells[number]
        jobs = [ADJOINTS[(number + turn) % len(ADJOINTS)] if number % 2 else None for turn in range(solves)]
        return [cell.infer() if job is None else cell.gradients(job) for job in jobs]

    expected = [work(number) for number in range(threads)]
    found = together(*(lambda number=number: work(number) for number in range(threads)))
    assert all(
        same(one, other)
        for left, right in zip(found, expected, strict=True)
        for one, other in zip(left, right, strict=True)
    )
    with torch.no_grad():
        for parameter in cells[0].parameters():
            parameter.mul_(1.1)
    with parametrize.cached():
        fresh = cells[0](torch.zeros(2, 4))
    assert torch.equal(fresh, cells[0](torch.zeros(2, 4)))


def test_a_deep_copy_in_the_same_f_has_its_own_weights():
    cell = Cell(0)
    other = copy.deepcopy(cell)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    seen = []
    deq.fixed_point(lambda z: seen.append((cell(z), other(z))) or 0.5 * (cell(z) + other(z)), torch.zeros(2, 4))
    assert torch.equal(seen[0][0], cell(torch.zeros(2, 4)))
    assert torch.equal(seen[0][1], other(torch.zeros(2, 4)))


def test_parameters_given_for_one_call_are_those_of_that_call():
    cell = Cell(0)
    given = [{name: scale * p.detach() for name, p in cell.named_parameters()} for scale in (1.0, 0.5)]
    call = lambda parameters, z: torch.func.functional_call(cell, parameters, (z,))  # noqa: E731
    seen = []
    f = lambda z: seen.append([call(parameters, z) for parameters in given]) or seen[-1][0]  # noqa: E731
    with torch.no_grad():
        deq.fixed_point(f, torch.zeros(2, 4), stop=deq.Stop(2, None))
        for found, parameters in zip(seen[0], given, strict=True):
            assert torch.equal(found, call(parameters, torch.zeros(2, 4)))


def test_cached_weights_are_those_of_the_thread_and_of_the_parameters_as_they_are():
    cell = Cell(0)
    with deq.cached_weights():
        with torch.no_grad():
            first = cell.first.weight
            assert cell.first.weight is first
            assert not first.requires_grad
        assert cell.first.weight.requires_grad
        assert together(lambda: cell.first.weight)[0] is not first
        seen = []
        with torch.no_grad():
            deq.fixed_point(lambda z: seen.append(cell.first.weight) or cell(z), torch.zeros(2, 4))
            assert all(weight is first for weight in seen)
            cell.get_parameter("first.parametrizations.weight.original0").mul_(2)
            torch.testing.assert_close(cell.first.weight, 2 * first)
    assert cell.first.weight is not cell.first.weight


def test_a_solve_within_a_solve_shares_its_weights_and_keeps_its_gradients():
    def outer(z):
        inner = deq.fixed_point(lambda y: 0.5 * cell(y) + 0.3 * z, torch.zeros(2, 4), stop=deq.Stop(60, 1e-7)).value
        return 0.5 * inner + 0.1 * cell(z)

    found = []
    for adjoint in (deq.Implicit(stop=deq.Stop(60, 1e-7)), deq.Unrolled()):
        cell = Cell(0)
        solution = deq.fixed_point(outer, torch.zeros(2, 4), stop=deq.Stop(60, 1e-7), adjoint=adjoint)
        found.append(torch.autograd.grad(solution.value.square().sum(), list(cell.parameters())))
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


def test_a_mask_is_that_of_one_solve_in_every_thread(switching):
    drop = deq.nn.VariationalDropout(0.5)
    x = torch.ones(4, 64)

    def work():
        seen = []
        with torch.no_grad():
            for _ in range(20):
                masks = []
                deq.fixed_point(lambda z, masks=masks: masks.append(drop(x)) or 0.1 * z + masks[-1], x)
                assert all(torch.equal(mask, masks[0]) for mask in masks)
                seen.append(masks[0])
        return seen

    masks = [mask for found in together(*[work] * 4) for mask in found]
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == len(masks)


def delta(across_solves):
    torch.manual_seed(0)
    linear = nn.Linear(16, 16)
    twice = nn.Sequential(linear, nn.Tanh(), linear, nn.Tanh())  # two call sites of one layer
    return deq.delta.to_delta(twice, 0.02, across_solves=across_solves)


def solve_by_differences(cell, seed):
    x = torch.rand(2, 16, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return deq.fixed_point(lambda z: 0.5 * cell(z) + x, torch.zeros(2, 16), stop=deq.Stop(12, None)).value


def test_threads_share_a_cell_that_works_by_differences_and_its_meter(switching):
    cell, meter = delta(across_solves=False)
    expected = [solve_by_differences(cell, seed) for seed in range(6)]
    alone = [dict(row) for row in meter.rows()]
    meter.reset()
    jobs = [lambda seed=seed: [solve_by_differences(cell, seed) for _ in range(5)] for seed in range(6)]
    for found, right in zip(together(*jobs), expected, strict=True):
        assert all(torch.equal(value, right) for value in found)
    for row, once in zip(meter.rows(), alone, strict=True):
        assert (row["dense_macs"], row["sparse_macs"]) == (5 * once["dense_macs"], 5 * once["sparse_macs"])


def test_memories_that_outlive_a_solve_are_refused_to_two_threads_at_once():
    cell, _ = delta(across_solves=True)
    inside, end = threading.Event(), threading.Event()

    def f(z):
        inside.set()
        end.wait(WAIT)
        return 0.5 * cell(z)

    def serve():
        with torch.no_grad():
            deq.fixed_point(lambda z: f(cell(z)), torch.zeros(2, 16), stop=deq.Stop(2, None))

    thread = threading.Thread(target=serve)
    thread.start()
    assert inside.wait(WAIT)
    with pytest.raises(RuntimeError, match=r"to_delta\(.*across_solves=True.*copy of its own for each thread"):
        solve_by_differences(cell, 0)
    end.set()
    thread.join()
    solve_by_differences(cell, 0)
    assert len(together(lambda: solve_by_differences(cell, 1))) == 1  # one after the other is as good as ever


def test_streams_of_several_threads_keep_their_own_states(switching):
    stream = deq.nn.Stream(cut=None)

    def work(name):
        for turn in range(40):
            z0 = torch.full((1, 3), float(turn))
            with torch.no_grad():
                stream.update(
                    deq.fixed_point(lambda z, z0=z0: z0, z0, stop=deq.Stop(1, None)),
                    [
                        name,
                    ],
                )
            assert torch.equal(stream.state([name]), z0)
            for extra in range(3):
                stream.forget((name, extra))

    together(*(lambda name=name: work(name) for name in range(6)))
