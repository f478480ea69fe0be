"""torchdeq's configurations, read into our objects."""

import argparse

import pytest
import torch

import deq_core as deq

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
    converted = deq.from_torchdeq(FLOW)
    (layer,) = converted.layers
    assert layer.solver == deq.FixedPointIteration()
    assert layer.stop == deq.Stop(36, 1e-3, relative=False)
    assert layer.eval_stop == deq.Stop(54, 1e-3, relative=False)
    assert layer.adjoint == deq.Phantom(steps=1, damping=0.4)
    assert converted.record == (6, 12, 18, 24, 30)
    assert converted.weight_norm


def test_a_sliced_configuration():
    converted = deq.from_torchdeq({"n_states": 2, "f_max_iter": 40, "grad": 3, "norm_type": "none"})
    assert [layer.stop.max_steps for layer in converted.layers] == [20, 20]
    assert all(layer.adjoint == deq.Phantom(steps=3) for layer in converted.layers)
    assert converted.record == ()
    assert not converted.weight_norm


def test_slices_between_indices():
    converted = deq.from_torchdeq({"indexing": [4, 10], "f_max_iter": 12, "grad": [1, 2, 5]})
    assert [layer.stop.max_steps for layer in converted.layers] == [4, 6, 2]
    assert [layer.adjoint for layer in converted.layers] == [deq.Phantom(1), deq.Phantom(2), deq.Phantom(5)]


def test_uneven_states_of_the_indexing_core_end_with_the_last_evaluation():
    assert deq.from_torchdeq({"core": "indexing", "n_states": 3, "f_max_iter": 20}).record == (8, 14)


def test_an_implicit_configuration_from_a_namespace():
    args = argparse.Namespace(
        ift=True, f_solver="broyden", b_solver="anderson", f_stop_mode="rel", b_max_iter=20, b_tol=1e-5, f_tol=1e-4
    )
    before = dict(vars(args))
    (layer,) = deq.from_torchdeq(args).layers
    assert vars(args) == before
    assert layer.solver == deq.Broyden()
    assert layer.stop == deq.Stop(40, 1e-4)
    released = deq.Anderson(6, 1e-4, relative_ridge=False)
    assert layer.adjoint == deq.Implicit(released, deq.Stop(20, 1e-5, relative=False))


def test_the_simple_solver_looks_at_no_residual():
    options = {"f_solver": "simple_fixed_point_iter", "b_solver": "simple_fixed_point_iter", "ift": True}
    (layer,) = deq.from_torchdeq(options).layers
    assert layer.stop == layer.eval_stop == deq.Stop(40, None, relative=False)
    assert layer.adjoint == deq.Implicit(deq.FixedPointIteration(), deq.Stop(40, None, relative=False))


@pytest.mark.parametrize("name", ["ift", "hook_ift"])
def test_indexed_states_beside_an_implicit_gradient_carry_one_evaluations(name):
    converted = deq.from_torchdeq({"core": "indexing", name: True, "n_states": 2})
    assert isinstance(converted.layers[0].adjoint, deq.Implicit)
    assert converted.record == (20,)


@pytest.mark.parametrize("no_stat", [None, True, False])
def test_statistics_are_kept_whatever_no_stat_says(no_stat):
    assert repr(deq.from_torchdeq({"no_stat": no_stat})) == repr(deq.from_torchdeq({}))


def test_the_layer_solves():
    converted = deq.from_torchdeq(FLOW)
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
        ({"norm_type": "spectral_norm"}, "norm_type must be one of weight_norm, none"),
        ({"sup_gap": 2}, "sup_gap=2 has no counterpart: solve in slices"),
        ({"sup_loc": [1]}, "sup_loc=.* has no counterpart"),
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
        deq.from_torchdeq(options)


def test_unsupported_options_may_stand_at_their_defaults():
    assert deq.from_torchdeq({"sup_loc": [], "sup_gap": -1, "sradius_mode": False, "indexing": None}).layers
