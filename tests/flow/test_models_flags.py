"""The flags of the released programs, in our words."""

import pytest

import deq_core as deq
from deq_flow.models.adjoints import PerState, SupervisedPhantom
from deq_flow.models.compat.flags import equilibrium_of, evaluations
from deq_flow.models.compat.numerics import ReleasedImplicit

RELEASED_ANDERSON = deq.Anderson(window=6, ridge=1e-4, relative_ridge=False)


def test_the_defaults_are_those_of_the_programs() -> None:
    first, second = equilibrium_of("v1", {}), equilibrium_of("v2", {})
    assert first.solver == second.solver == RELEASED_ANDERSON
    assert (first.stop.max_steps, second.stop.max_steps) == (36, 40)
    assert first.eval_stop is not None
    assert second.eval_stop is not None
    assert (first.eval_stop.max_steps, second.eval_stop.max_steps) == (54, 60)
    assert (first.chaining, second.chaining) == ("indexing", "sliced")
    assert first.stop.tol == second.stop.tol == 1e-3
    assert not first.stop.relative
    assert first.adjoint == second.adjoint == deq.Phantom(1)
    assert not first.weight_norm


def test_the_curriculum_of_version_two() -> None:
    flags = {"f_solver": "naive_solver", "f_thres": 40, "n_losses": 2, "phantom_grad": [3], "all_grad": True}
    things = equilibrium_of("v2", {**flags, "wnorm": True, "eval_f_thres": 120})
    assert (things.correction, things.stop.max_steps) == ((20,), 40)
    assert things.adjoint == (deq.Phantom(3), deq.Phantom(3))
    assert things.flow_gradient == "full"
    assert things.eval_stop is not None
    assert things.eval_stop.max_steps == 120
    assert things.weight_norm


def test_broydens_slices_make_an_evaluation_more_each() -> None:
    flags = {"f_solver": "broyden", "n_losses": 6, "sliced_core": True}
    sliced = equilibrium_of("v1", flags)
    assert (sliced.correction, sliced.stop.max_steps) == ((7, 14, 21, 28, 35), 42)
    assert sliced.chaining == "resumed"
    indexed = equilibrium_of("v1", {**flags, "sliced_core": False})
    assert (indexed.correction, indexed.stop.max_steps) == ((6, 12, 18, 24, 30), 36)
    assert evaluations("broyden", 36) == evaluations("anderson", 37) == 37


def test_budgets_that_do_not_divide_are_cut() -> None:
    assert equilibrium_of("v2", {"f_thres": 37, "n_losses": 6}).stop.max_steps == 36


def test_losses_by_index_have_gradients_of_their_own() -> None:
    flags = {"indexing": [10, 20], "f_thres": 36, "phantom_grad": [1, 2, 3], "tau": 0.7, "sup_all": True}
    equilibrium = equilibrium_of("v2", {**flags, "indexing_core": True})
    assert equilibrium.correction == (10, 20)
    assert isinstance(equilibrium.adjoint, tuple)
    PerState(equilibrium.adjoint)
    for adjoint, steps in zip(equilibrium.adjoint, (1, 2, 3), strict=True):
        assert isinstance(adjoint, SupervisedPhantom)
        assert (adjoint.steps, adjoint.damping) == (steps, pytest.approx(0.3))


def test_the_implicit_gradient_is_the_last_losses_alone() -> None:
    flags = {"n_losses": 2, "ift": True, "b_solver": "broyden", "b_thres": 30, "b_stop_mode": "rel", "b_eps": 1e-6}
    adjoint = equilibrium_of("v2", flags).adjoint
    assert isinstance(adjoint, tuple)
    assert adjoint[0] == deq.Phantom(1)
    assert adjoint[1] == ReleasedImplicit(deq.Broyden(), deq.Stop(31, 1e-6, relative=True), "v2", safe=False)


def test_flags_that_a_program_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match=r"v1 has no flag all_grad, f_eps; it has f_solver, .*sliced_core"):
        equilibrium_of("v1", {"all_grad": True, "f_eps": 1e-3})
    with pytest.raises(ValueError, match="no release has a solver 'newton'; there are anderson, broyden"):
        equilibrium_of("v2", {"f_solver": "newton"})
    with pytest.raises(ValueError, match=r"phantom_grad must be one number, or one for each of 3 losses, got \(1, 2\)"):
        equilibrium_of("v2", {"n_losses": 3, "phantom_grad": [1, 2]})
    with pytest.raises(ValueError, match=r"release 'v1' has no solver fixed_point_iteration"):
        equilibrium_of("v1", {"f_solver": "naive_solver"})
