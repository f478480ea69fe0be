"""What a solve refuses, and what it says then."""

import math
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deq_core as deq


@pytest.mark.parametrize("record", [(0, 2), (2, 2), (3, 1)])
def test_record_must_increase_from_one(record):
    with pytest.raises(ValueError, match="increasing steps counted from 1"):
        deq.fixed_point(torch.cos, torch.zeros(1, 1), record=record)


def test_record_beyond_the_last_evaluation_is_refused():
    with pytest.raises(ValueError, match="record asks for step 9, but stop allows 8"):
        deq.fixed_point(torch.cos, torch.zeros(1, 1), stop=deq.Stop(8), record=(9,))


@pytest.mark.parametrize("module", [nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.5))])
def test_a_module_that_changes_f_between_evaluations_is_refused(module):
    with pytest.raises(ValueError, match="is inside f in training mode"):
        deq.fixed_point(module, torch.zeros(2, 3))
    module.eval()
    assert deq.fixed_point(module, torch.zeros(2, 3)).converged.all()
    assert not nn.modules.module._global_forward_pre_hooks


def attention(z):
    heads = z[:, None]
    return F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.5)[:, 0]


@pytest.mark.parametrize(
    "f",
    [
        lambda z: F.dropout(torch.cos(z), 0.5),
        attention,
        lambda z: nn.RReLU()(torch.cos(z) - 2.0),  # below zero everywhere: above it RReLU draws nothing
        lambda z: torch.cos(z + 0.1 * torch.randn_like(z)),
    ],
)
@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.Phantom(), deq.Unrolled(), deq.Reversible()])
def test_an_f_that_draws_at_every_evaluation_is_refused(adjoint, f):
    torch.manual_seed(0)
    for steps in (2, 9) if isinstance(adjoint, deq.Unrolled | deq.Reversible) else (1, 2, 9):
        with pytest.raises(ValueError, match="Use VariationalDropout, which draws one mask per solve"):
            deq.fixed_point(f, torch.randn(3, 5, 4), stop=deq.Stop(steps, None), adjoint=adjoint)


def test_random_numbers_that_do_not_show_are_no_offence():
    """As when another thread draws them, or a mask is made once a solve."""
    drop = deq.nn.VariationalDropout(0.5)
    probes = []

    def f(z):
        probes.append(torch.randn(3))
        return torch.cos(drop(z))

    solution = deq.fixed_point(f, torch.zeros(2, 64))
    assert solution.converged.all()
    assert solution.nfe == len(probes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": deq.Anderson}, TypeError, "solver must be an object such as Anderson"),
        ({"stop": 40}, TypeError, "stop must be an object"),
        ({"adjoint": "implicit"}, TypeError, "adjoint must be an object"),
        ({"on_failure": "raises"}, ValueError, "on_failure must be one of ignore, warn, raise"),
    ],
)
def test_a_wrong_choice_is_named(options, error, message):
    with pytest.raises(error, match=message):
        deq.fixed_point(torch.cos, torch.zeros(1, 1), **options)
    with pytest.raises(error, match=message):
        deq.nn.DEQ(**options)


@pytest.mark.parametrize(
    "build",
    [
        lambda: deq.Stop(max_steps=0),
        lambda: deq.Stop(max_steps=True),
        lambda: deq.Stop(tol=-1.0),
        lambda: deq.Stop(tol=math.nan),
        lambda: deq.Stop(tol=1e39),  # infinite in float32: what is no number would be within it
        lambda: deq.FixedPointIteration(damping=1.0),
        lambda: deq.Anderson(window=0),
        lambda: deq.Anderson(ridge=-1.0),
        lambda: deq.Anderson(damping=-0.1),
        lambda: deq.Broyden(memory=0),
        lambda: deq.Phantom(steps=0),
        lambda: deq.Phantom(damping=1.5),
        lambda: deq.Implicit(on_failure="print"),  # pyright: ignore[reportArgumentType]  the error under test
    ],
)
def test_impossible_settings_fail_at_construction(build):
    with pytest.raises(ValueError, match=r"must be|damping is"):
        build()


def test_a_norm_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="norm must map"):
        deq.Stop(norm="rms")  # pyright: ignore[reportArgumentType]  the error under test


@pytest.mark.parametrize("batch", [2, 200])
@pytest.mark.parametrize("norm", [torch.norm, lambda x: x.norm(dim=1, keepdim=True), torch.abs])
def test_a_norm_that_gives_other_than_one_number_a_sample_is_refused(norm, batch):
    for stop in (deq.Stop(norm=norm), deq.Stop(parts=(deq.Part(1e-3, norm=norm),))):
        with pytest.raises(ValueError, match=r"norm must map \(B, n\) to \(B,\), one number a sample"):
            deq.fixed_point(torch.cos, torch.zeros(batch, 3), stop=stop)


def test_a_complex_state_is_refused_and_solved_for_as_real():
    z0, factor = torch.zeros(2, 3, dtype=torch.complex128), torch.tensor(0.3 + 0.4j, dtype=torch.complex128)

    def f(z):
        return factor * z + 1

    with pytest.raises(TypeError, match=r"state is torch\.complex128: solve for torch\.view_as_real of it"):
        deq.fixed_point(f, z0)
    real = deq.fixed_point(
        lambda z: torch.view_as_real(f(torch.view_as_complex(z))), torch.view_as_real(z0), stop=deq.Stop(tol=1e-12)
    )
    expected = (1 / (1 - factor)).expand(2, 3)
    torch.testing.assert_close(torch.view_as_complex(real.value), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.long, torch.bool])
def test_an_f_that_returns_other_numbers_than_floating_point_is_refused(dtype):
    with pytest.raises(ValueError, match="f must return floating point"):
        deq.fixed_point(lambda z: torch.cos(z).to(dtype), torch.zeros(2, 3))


def test_another_threads_modules_are_none_of_a_solves_business():
    norm, failures = nn.BatchNorm1d(3), []
    inside, done = threading.Event(), threading.Event()

    def train():
        inside.wait(10)
        try:
            norm(torch.randn(4, 3))
        except ValueError as error:
            failures.append(error)
        done.set()

    def f(z):
        inside.set()
        done.wait(10)
        return z / 2

    thread = threading.Thread(target=train)
    thread.start()
    deq.fixed_point(f, torch.zeros(2, 3))
    thread.join()
    assert done.is_set()
    assert not failures
