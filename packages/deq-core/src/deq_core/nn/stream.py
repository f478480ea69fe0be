"""Warm starts: a solve begins with the state of the last one."""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._solve.solution import Solution
from .._solve.tree import Tree, leaves_of, map_leaves, same_structure


def warm_start(previous: Tree | None, fallback: Tree) -> Tree:
    """`previous`, detached, if it can serve as a start; `fallback` otherwise.

    All of `fallback` is used if there is no previous state or the shape of a leaf has changed (size of the video, batch
    size), and single samples of it where the previous state is not finite. The result has the dtypes and devices of
    `fallback`.

    Raises:
        TypeError: `previous` and `fallback` have different tree structures.
    """
    if previous is None:
        return fallback
    if not same_structure(previous, fallback):
        raise TypeError("the previous state and the fallback must be trees of the same structure")
    pairs = list(zip(leaves_of(previous), leaves_of(fallback), strict=True))
    if any(old.shape != new.shape for old, new in pairs):
        return fallback
    finite = torch.stack([old.detach().isfinite().flatten(1).all(1).to(new.device) for old, new in pairs]).all(0)

    def choose(old: Tensor, new: Tensor) -> Tensor:
        usable = finite.reshape(-1, *[1] * (new.dim() - 1))
        return torch.where(usable, old.detach().to(new), new)

    return map_leaves(choose, previous, fallback)


class Stream:
    """The last state of each of many videos; a batch may contain any of them in any order.

        stream = Stream(cut=4.0)
        sol = model(frames, stream.state(names))
        cut = stream.update(sol, names)               # (b,) bool

    A scene cut is detected by the residual of the first step of a warm start: it is more than `cut` times the usual one
    of that stream, or at least `level`. The stream then forgets its state. Solve the frame again if its solution
    matters. A change of size needs no handling, since `warm_start` drops a state that does not fit.

    A relative residual |f(z) - z| / |f(z)| is 1 at a start from zeros, and hardly more in another scene. So if the
    usual one is large, for instance with one step a frame, no residual reaches a multiple of it. A level needs no
    history: at a residual of 1 the last state is of no more use than zeros.

    Args:
        cut: ratio, above 1, of the first residual to the usual one above which it is a cut; `None` does not test it.
        level: first residual, above 0, as the solve's `Stop` measures it, from which on it is a cut; `None` does not
            test it.
        memory: weight of the past in the running mean of the usual residual, in [0, 1).
    """

    def __init__(self, cut: float | None = 4.0, *, level: float | None = None, memory: float = 0.8) -> None:
        if cut is not None and not cut > 1:
            raise ValueError(f"cut must be None or above 1, got {cut!r}")
        if level is not None and not level > 0:
            raise ValueError(f"level must be None or above 0, got {level!r}")
        if not 0 <= memory < 1:
            raise ValueError(f"memory must be at least 0 and below 1, got {memory!r}")
        self.cut = cut
        self.level = level
        self.memory = memory
        self._states: dict[Hashable, Tree] = {}
        self._usual: dict[Hashable, float] = {}

    def state(self, names: Sequence[Hashable]) -> Tree:
        """The last states of the streams as one batch, for `warm_start`; None if none has a state.

        A stream without a state, or with a state of another size than the newest of them, is filled with NaN, which
        `warm_start` replaces by its fallback.
        """
        known = [name for name in list(self._states) if name in set(names)]  # other threads may add theirs
        if not known:
            return None
        newest = self._states[known[-1]]
        blank = map_leaves(lambda leaf: torch.full_like(leaf, torch.nan), newest)
        shapes = [leaf.shape for leaf in leaves_of(newest)]
        rows = []
        for name in names:
            state = self._states.get(name, blank)
            rows.append(state if [leaf.shape for leaf in leaves_of(state)] == shapes else blank)
        return map_leaves(lambda *leaves: torch.cat(leaves), *rows)

    def update(self, solution: Solution, names: Sequence[Hashable]) -> Tensor:
        """Keeps the states of the solution; returns which streams had a scene cut and have no state now, (B,) bool.

        A stream whose sample had no finite f(z) has no state afterwards either. One that diverged later keeps its best
        finite state.

        Raises:
            ValueError: there is not one name for each sample, or a name occurs twice.
        """
        if len(names) != len(solution.residual) or len(set(names)) != len(names):
            raise ValueError(f"expected {len(solution.residual)} different names, one a sample, got {list(names)}")
        first, last = solution.trace[0].tolist(), solution.residual.isfinite().tolist()
        cuts = []
        for row, name in enumerate(names):
            usual = self._usual.get(name) or None  # 0, as after a repeated frame, is no reference
            warm = self._fits(name, solution)
            cuts.append(warm and self._is_cut(first[row], usual))
            if cuts[-1] or not last[row]:
                self.forget(name)
                continue
            if warm:
                self._usual[name] = (
                    first[row] if usual is None else self.memory * usual + (1 - self.memory) * first[row]
                )
            self._states.pop(name, None)  # the newest state comes last
            self._states[name] = map_leaves(lambda leaf, row=row: leaf[row : row + 1].detach().clone(), solution.value)
        return torch.tensor(cuts, dtype=torch.bool, device=solution.residual.device)

    def _fits(self, name: Hashable, solution: Solution) -> bool:
        """Whether the stream has a state of the size of this solution, so that the solve may have begun with it."""
        shapes = [leaf.shape[1:] for leaf in leaves_of(solution.value)]
        return name in self._states and [leaf.shape[1:] for leaf in leaves_of(self._states[name])] == shapes

    def _is_cut(self, first: float, usual: float | None) -> bool:
        """Whether this first residual of a warm start is a scene cut; NaN is."""
        jumped = self.cut is not None and usual is not None and not first <= self.cut * usual
        return jumped or (self.level is not None and not first < self.level)

    def forget(self, name: Hashable) -> None:
        """Drops the state of a stream, if it has one."""
        self._states.pop(name, None)
        self._usual.pop(name, None)

    def state_dict(self) -> dict[str, Any]:
        """All states and usual residuals, for `torch.save`."""
        return {"states": dict(self._states), "usual": dict(self._usual)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._states, self._usual = dict(state["states"]), dict(state["usual"])
