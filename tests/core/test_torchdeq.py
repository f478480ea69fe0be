"""torchdeq's configurations, read into our objects."""

import argparse
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import deq_core as deq
from deq_core.compat import torchdeq as _torchdeq

FLOW = {
    "core": "indexing",
    "f_solver": "fixed_point_iter",
    "f_max_iter": 36,
    "n_states": 6,
    "grad": [1],
    "tau": 0.6,
    "eval_factor": 1.5,
    "norm_type": "weight_norm",
}


def test_an_indexing_configuration():
    converted = deq.compat.from_torchdeq(FLOW)
    (layer,) = converted.layers
    assert layer.solver == deq.FixedPointIteration()
    assert layer.stop == deq.Stop(36, 1e-3, relative=False)
    assert layer.eval_stop == deq.Stop(54, 1e-3, relative=False)
    assert layer.adjoint == deq.Phantom(steps=1, damping=0.4)
    assert converted.record == (6, 12, 18, 24, 30)


def test_a_sliced_configuration():
    converted = deq.compat.from_torchdeq({"n_states": 2, "f_max_iter": 40, "grad": 3, "norm_type": "none"})
    assert [layer.stop.max_steps for layer in converted.layers] == [20, 20]
    assert all(layer.adjoint == deq.Phantom(steps=3) for layer in converted.layers)
    assert converted.record == ()


def test_slices_between_indices():
    converted = deq.compat.from_torchdeq({"indexing": [4, 10], "f_max_iter": 12, "grad": [1, 2, 5]})
    assert [layer.stop.max_steps for layer in converted.layers] == [4, 6, 2]
    assert [layer.adjoint for layer in converted.layers] == [deq.Phantom(1), deq.Phantom(2), deq.Phantom(5)]


def test_uneven_states_of_the_indexing_core_end_with_the_last_evaluation():
    assert deq.compat.from_torchdeq({"core": "indexing", "n_states": 3, "f_max_iter": 20}).record == (8, 14)


def test_an_implicit_configuration_from_a_namespace():
    args = argparse.Namespace(
        ift=True, f_solver="broyden", b_solver="anderson", f_stop_mode="rel", b_max_iter=20, b_tol=1e-5, f_tol=1e-4
    )
    before = dict(vars(args))
    (layer,) = deq.compat.from_torchdeq(args).layers
    assert vars(args) == before
    assert layer.solver == deq.Broyden()
    assert layer.stop == deq.Stop(40, 1e-4)
    released = deq.Anderson(6, 1e-4, relative_ridge=False)
    assert layer.adjoint == deq.Implicit(released, deq.Stop(20, 1e-5, relative=False))


def test_the_simple_solver_looks_at_no_residual():
    options = {"f_solver": "simple_fixed_point_iter", "b_solver": "simple_fixed_point_iter", "ift": True}
    (layer,) = deq.compat.from_torchdeq(options).layers
    assert layer.stop == layer.eval_stop == deq.Stop(40, None, relative=False)
    assert layer.adjoint == deq.Implicit(deq.FixedPointIteration(), deq.Stop(40, None, relative=False))


@pytest.mark.parametrize("name", ["ift", "hook_ift"])
def test_indexed_states_beside_an_implicit_gradient_carry_one_evaluations(name):
    converted = deq.compat.from_torchdeq({"core": "indexing", name: True, "n_states": 2})
    assert isinstance(converted.layers[0].adjoint, deq.Implicit)
    assert converted.record == (20,)


@pytest.mark.parametrize("no_stat", [None, True, False])
def test_statistics_are_kept_whatever_no_stat_says(no_stat):
    assert repr(deq.compat.from_torchdeq({"no_stat": no_stat})) == repr(deq.compat.from_torchdeq({}))


def test_the_layer_solves():
    converted = deq.compat.from_torchdeq(FLOW)
    x = torch.randn(2, 3, requires_grad=True)
    solution = converted.layers[0](lambda z: torch.tanh(0.5 * z + x), torch.zeros(2, 3), record=converted.record)
    assert len(solution.trajectory) == 5
    assert solution.converged.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f_maxiter": 3}, r"not options of torchdeq: \['f_maxiter'\]"),
        ({"f_solver": "newton"}, "f_solver must be one of fixed_point_iter, .* got 'newton'"),
        ({"f_stop_mode": "relative"}, "f_stop_mode must be one of abs, rel"),
        ({"core": "jump"}, "core must be one of sliced, indexing"),
        ({"norm_type": "batch_norm"}, "norm_type must be one of weight_norm, spectral_norm, none, got 'batch_norm'"),
        ({"sup_gap": 2}, "sup_gap=2 is beyond grad=1: torchdeq supervises no state"),
        ({"sup_loc": [2, 4], "grad": 4}, r"sup_loc=\(2, 4\) names the last of grad=4 steps.*counts it twice"),
        ({"sup_loc": [0, 2], "grad": 4}, r"names no phantom step: \[0\] of 1 to 4"),
        ({"sup_loc": [7], "grad": [2, 4], "n_states": 2}, r"names no phantom step: \[7\] of 1 to 4"),
        ({"core": "indexing", "n_states": 2, "ift": True, "grad": 2, "sup_gap": 1}, "indexed states of ift=True"),
        ({"grad": [1, 2], "n_states": 3}, r"grad=\(1, 2\) has 2 values for 3"),
        ({"core": "indexing", "n_states": 2, "grad": [1, 2]}, "differs between indexed states"),
        ({"core": "indexing", "n_states": 2, "ift": True, "grad": 3}, "grad=3 .* indexed states of ift=True"),
        ({"core": "indexing", "n_states": 2, "hook_ift": True, "tau": 0.5}, "tau=0.5 .* indexed states of hook_ift"),
        ({"n_states": 9, "f_max_iter": 6}, "n_states=9 .* f_max_iter=6"),
        ({"indexing": [10, 50]}, "must increase and end before f_max_iter=40"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        deq.compat.from_torchdeq(options)


@pytest.mark.parametrize(
    ("options", "adjoint"),
    [
        ({"grad": 6, "sup_gap": 2}, deq.Phantom(6, record=(2, 4))),
        ({"grad": 6, "sup_gap": 4}, deq.Phantom(4)),
        ({"grad": 3, "sup_gap": 1, "tau": 0.5}, deq.Phantom(3, 0.5, record=(1, 2))),
        ({"grad": 6, "sup_loc": [4, 2]}, deq.Phantom(6, record=(2, 4))),
        ({"grad": 6, "sup_gap": 3, "sup_loc": [99]}, deq.Phantom(6, record=(3,))),
        ({"grad": 6, "sup_gap": -1, "sup_loc": None}, deq.Phantom(6)),
    ],
)
def test_supervised_phantom_steps(options, adjoint):
    assert deq.compat.from_torchdeq(options).layers[0].adjoint == adjoint


@pytest.mark.parametrize(
    ("options", "call", "solver"),
    [
        ({}, {"tau": 0.9}, deq.FixedPointIteration(damping=1 - 0.9)),
        ({"f_solver": "anderson"}, {"m": 3, "lam": 1e-8}, deq.Anderson(3, 1e-8, relative_ridge=False)),
        ({"f_solver": "broyden"}, {"LBFGS_thres": 8}, deq.Broyden(8)),
        ({"f_solver": "broyden"}, {"ls": True}, deq.LineSearchBroyden()),
    ],
)
def test_the_solvers_own_options(options, call, solver):
    assert deq.compat.from_torchdeq(options, call).layers[0].solver == solver
    with pytest.raises(ValueError, match=r"solver_kwargs \['window'\] are not options of f_solver"):
        deq.compat.from_torchdeq(options, {**call, "window": 3})


def layer():
    torch.manual_seed(0)
    return nn.Linear(6, 4, dtype=torch.float64)


def lengths(weight):
    return weight.norm(dim=1)


def test_norms_are_applied_with_their_options():
    def normed(**options):
        weight = deq.compat.from_torchdeq(options).norm(layer()).weight
        assert isinstance(weight, torch.Tensor)
        return weight.detach()

    plain = layer().weight.detach()
    assert torch.equal(normed(norm_type="none"), plain)
    torch.testing.assert_close(normed(), plain)
    torch.testing.assert_close(lengths(normed(norm_no_scale=True, norm_target_norm=0.3)), plain.new_full((4,), 0.3))
    clipped = normed(norm_no_scale=True, norm_target_norm=0.6, norm_clip=True)
    torch.testing.assert_close(lengths(clipped), lengths(plain).clamp_max(0.6))
    assert (lengths(plain) < 0.6).any()
    assert (lengths(plain) > 0.6).any()

    spectral = {"norm_type": "spectral_norm", "norm_target_norm": 0.5, "sn_n_power_iters": 30}
    for no_scale in (True, False):
        found = torch.linalg.matrix_norm(normed(**spectral, norm_no_scale=no_scale), 2)
        torch.testing.assert_close(found, torch.tensor(0.5, dtype=torch.float64))
    wide = {**spectral, "norm_target_norm": 50.0, "norm_clip": True, "norm_clip_value": 2.0}
    torch.testing.assert_close(normed(**wide), 2 * plain)


def test_a_norm_skips_what_it_is_told_to():
    cell = deq.compat.from_torchdeq({}).norm(nn.Sequential(layer(), layer()), skip=("1",))
    assert [key for key, _ in cell.named_parameters() if key.endswith("original0")] == [
        "0.parametrizations.weight.original0"
    ]


def test_what_belongs_to_the_objective_is_handed_on():
    options = {"gamma": 0.7, "jac_loss_weight": 0.1, "jac_loss_freq": 0.3, "jac_incremental": 5, "sradius_mode": True}
    converted = deq.compat.from_torchdeq(options)
    assert {name: getattr(converted, name) for name in options} == options


NAMES = json.loads((Path(__file__).parents[1] / "golden" / "torchdeq_names.json").read_text())


def test_every_name_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "coming-from-torchdeq.md").read_text()
    words = {word for span in re.findall(r"`([^`\n]+)`", page) for word in re.findall(r"--\w+|\w+", span)}
    assert not {*NAMES["torchdeq"], *NAMES["torchdeq exports"]} - words
    assert not {f"--{flag}" for flag in NAMES["deq-flow"]} - words


def test_every_option_of_torchdeq_is_known():
    assert {*_torchdeq._KNOWN} == {*NAMES["torchdeq"]}
