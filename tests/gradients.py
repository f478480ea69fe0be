"""Gradients of fixed points, exact and as found, shared by the tests of the adjoints."""

from typing import Any

import torch

import deq_core as deq


def exact_gradients(problem, cotangent):
    """dL/dθ by a dense solve of the implicit function theorem, with L = <cotangent, z*>."""
    state = problem.solution()
    parts = state if isinstance(state, tuple) else (state,)
    sizes = [leaf[0].numel() for leaf in parts]

    def flat(z):
        return problem.leaves(problem.f(*[p.reshape(s.shape) for p, s in zip(z.split(sizes, 1), parts, strict=True)]))

    z = problem.leaves(state).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(flat, z).reshape(z.numel(), z.numel())
    u = torch.linalg.solve(torch.eye(z.numel(), dtype=z.dtype) - jacobian.T, cotangent.flatten())
    return torch.autograd.grad(flat(z), problem.parameters, u.reshape(z.shape))


def gradients(problem, cotangent, **options):
    solution = deq.fixed_point(problem.f, problem.z0, **options)
    return torch.autograd.grad((problem.leaves(solution.value) * cotangent).sum(), problem.parameters)


def cotangent_of(problem, seed=0):
    like = problem.leaves(problem.z0)
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def cosine(left, right):
    left, right = torch.cat([g.flatten() for g in left]), torch.cat([g.flatten() for g in right])
    return torch.nn.functional.cosine_similarity(left, right, dim=0).item()


def reversibly(by: deq.Reversible) -> dict[str, Any]:
    """What `fixed_point` is to be told."""
    return {"adjoint": by}


def unrolled(by: deq.Reversible) -> dict[str, Any]:
    """The same iteration, differentiated by autograd."""
    return {"solver": by, "adjoint": deq.Unrolled()}


def assert_equal_gradients(found, expected, tolerance=1e-10):
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)
