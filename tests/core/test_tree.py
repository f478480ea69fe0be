"""A state of any structure is one matrix, and comes back as it was."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import _pytree

import deq_core as deq
from deq_core._solve.tree import Ravel

Pair = namedtuple("Pair", "hidden flow")

shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
trees = st.recursive(
    shapes,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda members: ["list", *members]),
        st.lists(inner, min_size=1, max_size=3).map(lambda members: ["tuple", *members]),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


def build(tree, batch, counter):
    """Tensors of increasing numbers in the drawn structure."""
    match tree:
        case ["list", *members]:
            return [build(member, batch, counter) for member in members]
        case ["tuple", *members]:
            return tuple(build(member, batch, counter) for member in members)
        case dict():
            return {key: build(value, batch, counter) for key, value in tree.items()}
    size = batch * torch.Size(tree).numel()
    counter[0] += size
    return torch.arange(counter[0] - size, counter[0], dtype=torch.float64).reshape(batch, *tree)


def equal(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right) and left.dtype == right.dtype
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return type(left) is type(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))


@settings(max_examples=60, deadline=None)
@given(tree=trees, batch=st.integers(0, 3))
def test_flattening_and_back_is_the_identity(tree, batch):
    state = build(tree, batch, counter := [0])
    ravel = Ravel(state)
    flat = ravel.flatten(state)
    assert flat.shape[0] == batch
    assert flat.numel() == counter[0]
    assert flat.flatten().sort().values.tolist() == list(range(counter[0]))
    assert equal(ravel.unflatten(flat), state)


@settings(max_examples=30, deadline=None)
@given(tree=trees)
def test_a_tree_of_any_structure_is_solved(tree):
    state = build(tree, 2, [0])
    unwrapped = (lambda *members: members) if type(state) is tuple else (lambda member: member)

    def f(*members):
        return _pytree.tree_map(lambda leaf: leaf / 2 + 1, unwrapped(*members))

    solution = deq.fixed_point(f, state, stop=deq.Stop(60, 1e-12))
    for leaf in _pytree.tree_leaves(solution.value):
        torch.testing.assert_close(leaf, torch.full_like(leaf, 2.0))


def test_a_named_tuple_is_one_argument():
    z0 = Pair(hidden=torch.zeros(2, 3), flow=torch.zeros(2, 4))
    solution = deq.fixed_point(lambda state: Pair(state.hidden / 2 + 1, state.flow / 4 + 3), z0)
    torch.testing.assert_close(solution.value.flow, torch.full((2, 4), 4.0))


def test_an_ordered_dictionary_is_one_argument():
    z0 = OrderedDict(b=torch.zeros(2, 1), a=torch.zeros(2, 1))
    solution = deq.fixed_point(lambda state: OrderedDict(b=state["a"] / 2 + 1, a=state["b"] / 2), z0)
    assert list(solution.value) == ["b", "a"]


def test_channels_last_states_are_viewed_not_copied():
    state = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    ravel = Ravel(state)
    flat = ravel.flatten(state)
    assert flat.data_ptr() == state.data_ptr()
    back = ravel.unflatten(flat)
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(back, state)
    assert torch.equal(ravel.unflatten(ravel.flatten(state.contiguous())), state)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ((), ValueError, "has no tensor"),
        ((torch.zeros(2, 1), 3.0), TypeError, r"state\[1\] is float"),
        ({"h": torch.zeros(2, dtype=torch.long)}, TypeError, r"state\['h'\] is torch.int64"),
        (torch.zeros(()), ValueError, r"state is \(\)"),
        (torch.zeros(2, 0), ValueError, r"state is \(2, 0\)"),
        ((torch.zeros(2, 1), torch.zeros(3, 1)), ValueError, r"state\[0\] has 2, state\[1\] has 3"),
        ((torch.zeros(2, 1), torch.zeros(2, 1, device="meta")), ValueError, r"state\[1\] on meta"),
    ],
)
def test_a_state_that_cannot_be_solved_names_the_leaf(state, error, message):
    with pytest.raises(error, match=message):
        deq.fixed_point(torch.cos, state)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda h, c: h, r"expected \(\*, \*\), got \*"),
        (lambda h, c: [h, c], r"expected \(\*, \*\), got \[\*, \*\]"),
        (lambda h, c: (h, c[:, :1]), r"state\[1\] has shape \(2, 4\), got shape \(2, 1\)"),
        (lambda h, c: (h, 1.0), r"state\[1\] has shape \(2, 4\), got float"),
        (lambda h, c: (h.to("meta"), c), r"state\[0\] is on cpu, got meta"),
    ],
)
def test_an_image_unlike_the_state_names_the_leaf(image, message):
    with pytest.raises(ValueError, match=message):
        deq.fixed_point(image, (torch.zeros(2, 3), torch.zeros(2, 4)))
