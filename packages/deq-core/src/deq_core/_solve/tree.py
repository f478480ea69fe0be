"""Trees of (B, …) tensors as one (B, n) matrix and back. The only file that uses `torch.utils._pytree`."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

Tree = Any


class Ravel:
    """The layout of a state: how its leaves become columns of one (B, n) matrix.

    The matrix has the common dtype of the leaves, at least float32, so that bfloat16 states are solved in float32.
    `unflatten` restores the dtype, shape and memory layout of each leaf (channels last stays channels last).

    Raises:
        TypeError: a leaf is not a floating-point tensor.
        ValueError: there is no leaf, a leaf is empty, or leaves differ in batch size or device. The message names the
            leaf.
    """

    def __init__(self, tree: Tree) -> None:
        named, self.structure = _pytree.tree_flatten_with_path(tree)
        if not named:
            raise ValueError("the state has no tensor: expected a tensor or a tree of tensors of shape (B, ...)")
        self.names = [_name(path) for path, _ in named]
        leaves = [_checked(name, leaf) for name, (_, leaf) in zip(self.names, named, strict=True)]
        first = leaves[0]
        for name, leaf in zip(self.names, leaves, strict=True):
            if leaf.shape[0] != first.shape[0]:
                raise ValueError(
                    f"every leaf of the state has the same first (batch) dimension: {self.names[0]} has "
                    f"{first.shape[0]}, {name} has {leaf.shape[0]}"
                )
            if leaf.device != first.device:
                raise ValueError(
                    f"every leaf of the state is on one device: {self.names[0]} is on {first.device}, "
                    f"{name} on {leaf.device}"
                )
        self.batch = first.shape[0]
        self.device = first.device
        self.shapes = [leaf.shape for leaf in leaves]
        self.dtypes = [leaf.dtype for leaf in leaves]
        self.orders = [_by_stride(leaf) for leaf in leaves]
        self.sizes = [_size(leaf) for leaf in leaves]
        self.dtype = torch.float32
        for dtype in self.dtypes:
            self.dtype = torch.promote_types(self.dtype, dtype)
        # A single tensor with the order and precision of its columns needs only a view.
        ordered = self.orders[0] == sorted(self.orders[0])
        self._bare = isinstance(tree, Tensor) and ordered and self.dtypes == [self.dtype]

    def flatten(self, tree: Tree) -> Tensor:
        """The tree as a (B, n) matrix, as a view if the layout allows.

        Raises:
            ValueError: the structure of the tree, or the shape or device of a leaf, is not that of the state, or a leaf
                is not floating point. The message names the leaf.
        """
        if self._is_bare(tree):
            return tree if tree.dim() == 2 else tree.reshape(self.batch, self.sizes[0])
        leaves, structure = _pytree.tree_flatten(tree)
        if structure != self.structure:
            raise ValueError(
                f"f must return the structure it was given: expected {_describe(self.structure)}, "
                f"got {_describe(structure)}"
            )
        columns = []
        for name, leaf, dtype, shape, size, order in zip(
            self.names, leaves, self.dtypes, self.shapes, self.sizes, self.orders, strict=True
        ):
            if not isinstance(leaf, Tensor) or leaf.shape != shape:
                got = f"shape {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else type(leaf).__name__
                raise ValueError(f"f must return the shapes it was given: {name} has shape {tuple(shape)}, got {got}")
            if leaf.device != self.device:
                raise ValueError(f"f must stay on the state's device: {name} is on {self.device}, got {leaf.device}")
            if not leaf.is_floating_point():
                raise ValueError(f"f must return floating point, as the state is: {name} is {dtype}, got {leaf.dtype}")
            leaf = leaf if order == sorted(order) else leaf.permute(order)
            columns.append(leaf.reshape(self.batch, size).to(self.dtype))
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)

    def unflatten(self, flat: Tensor) -> Tree:
        """The (B, n) matrix as a tree of this layout."""
        if self._bare:
            return flat.reshape(self.shapes[0]).to(self.dtype)
        leaves = []
        parts = (flat,) if len(self.sizes) == 1 else flat.split(self.sizes, dim=1)
        for part, shape, dtype, order in zip(parts, self.shapes, self.dtypes, self.orders, strict=True):
            leaf = part.reshape([shape[axis] for axis in order])
            if order != sorted(order):
                leaf = leaf.permute([order.index(axis) for axis in range(len(order))])
            leaves.append(leaf.to(dtype))
        return _pytree.tree_unflatten(leaves, self.structure)

    def _is_bare(self, tree: Tree) -> bool:
        return (
            self._bare
            and isinstance(tree, Tensor)
            and tree.shape == self.shapes[0]
            and tree.dtype == self.dtype
            and tree.device == self.device
        )


def same_structure(left: Tree, right: Tree) -> bool:
    """Whether two trees have the same containers."""
    return _pytree.tree_structure(left) == _pytree.tree_structure(right)


def leaves_of(tree: Tree) -> list[Any]:
    """Leaves of a tree, in the order of the columns."""
    return _pytree.tree_leaves(tree)


def map_leaves(function: Any, tree: Tree, *others: Tree) -> Tree:
    """Applies `function` to the leaves of one or more trees of the same structure."""
    return _pytree.tree_map(function, tree, *others)


def _checked(name: str, leaf: Any) -> Tensor:
    if not isinstance(leaf, Tensor):
        raise TypeError(f"every leaf of the state is a tensor: {name} is {type(leaf).__name__}")
    if not leaf.is_floating_point():
        remedy = ": solve for torch.view_as_real of it, and take view_as_complex in f" if leaf.is_complex() else ""
        raise TypeError(f"every leaf of the state is floating point: {name} is {leaf.dtype}{remedy}")
    if leaf.dim() == 0 or _size(leaf) == 0:
        raise ValueError(f"every leaf of the state has shape (B, ...) with elements: {name} is {tuple(leaf.shape)}")
    return leaf


def _size(leaf: Tensor) -> int:
    """Number of elements of one sample."""
    return leaf.shape[1:].numel()


def _by_stride(leaf: Tensor) -> list[int]:
    """Axes in memory order after the batch axis: columns in this order need no copy."""
    return [0, *sorted(range(1, leaf.dim()), key=lambda axis: -leaf.stride(axis))]


def _name(path: tuple[Any, ...]) -> str:
    return f"state{_pytree.keystr(path)}"


def _describe(structure: Any) -> str:
    """A structure as Python writes it: `(*, *)`, `{'h': *}`."""
    return repr(_pytree.tree_unflatten([_Leaf()] * structure.num_leaves, structure))


class _Leaf:
    def __repr__(self) -> str:
        return "*"
