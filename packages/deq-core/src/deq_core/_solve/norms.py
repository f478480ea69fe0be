"""Norms of a flat state: (B, n) → (B,), which neither under- nor overflow."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .modes import may_look

Norm = Callable[[Tensor], Tensor]


class _Range(NamedTuple):
    """Where squares are safe, and what brings rows there.

    Attributes:
        dtype: of the numbers.
        least: a root mean square; squares of elements a thousandth of it or more are normal numbers.
        most: the largest number.
        lift, drop: what too short and too long rows are multiplied by. Powers of two, which round nothing.
    """

    dtype: torch.dtype
    least: float
    most: float
    lift: float
    drop: float


_SINGLE = _Range(torch.float32, 3.2e-16, torch.finfo(torch.float32).max, 2.0**100, 2.0**-90)
_DOUBLE = _Range(torch.float64, 1.0e-146, torch.finfo(torch.float64).max, 2.0**700, 2.0**-700)
_RANGES = {torch.float32: _SINGLE, torch.complex64: _SINGLE, torch.float64: _DOUBLE, torch.complex128: _DOUBLE}

# So many numbers or fewer are compared on the host, which is quicker than calls on tiny tensors.
_FEW = 128


def two_norm(x: Tensor) -> Tensor:
    """Euclidean length of every sample, (B,), in float32 at least.

    Right wherever the elements are numbers of their dtype, however small or large their squares.
    """
    return measured(two_norm, x, look=may_look(x)).value()


def rms_norm(x: Tensor) -> Tensor:
    """Root mean square of every sample, (B,): the Euclidean length made independent of the state's size."""
    return measured(rms_norm, x, look=may_look(x)).value()


def max_norm(x: Tensor) -> Tensor:
    """Largest magnitude in every sample, (B,)."""
    return _max(_at_least_single(x))


NORMS = (two_norm, rms_norm, max_norm)


class Length(NamedTuple):
    """A length of every sample that may lie beyond its dtype.

    Attributes:
        number: (B,) the length times `scale`.
        scale: (B,) powers of two; None for 1.
    """

    number: Tensor
    scale: Tensor | None = None

    def value(self) -> Tensor:
        """(B,) the length as its dtype has it: infinite beyond."""
        return self.number if self.scale is None else self.number / self.scale

    def bounded(self) -> Tensor:
        """(B,) the length; 0 where it is 0, otherwise the nearest normal number."""
        return self.number if self.scale is None else _bounded(self.value(), self.number)

    def over(self, other: "Length") -> Tensor:
        """(B,) the ratio of two lengths; 0 where this one is 0, otherwise the nearest normal number."""
        ratio = self.number / other.number
        if self.scale is None and other.scale is None:
            return ratio
        own = 1.0 if self.scale is None else self.scale
        others = torch.ones_like(other.number) if other.scale is None else other.scale
        ratio = ratio * (others / own)
        return _bounded(torch.where(other.number < torch.inf, ratio, torch.inf), self.number)


def measured(norm: Norm, x: Tensor, *, look: bool) -> Length:
    """`norm` of every sample of x (B, ...), without under- or overflow.

    One pass where the lengths are ordinary and `look` allows to see it. A norm of one's own may have squares in it as
    well, so every one is given rows of ordinary length: a norm of a times x is a times the norm.
    """
    norm, x = _plain(norm), _at_least_single(x)
    number = norm(x)
    dtype, least, most, lift, drop = _RANGES[x.dtype]
    least *= math.prod(x.shape[1:]) ** 0.5
    if look and all_within(number, least, most):
        return Length(number)
    one = torch.ones_like(number, dtype=dtype)
    scale = torch.where(number < least, lift * one, torch.where(number <= most, one, drop * one))
    return Length(norm(x * scale.reshape(-1, *[1] * (x.dim() - 1))), scale)


def of_rows(norm: Norm, x: Tensor, *, look: bool) -> Length:
    """`measured` for a norm that may be the user's.

    Raises:
        ValueError: it does not give one number a row of x (B, n).
    """

    def checked(rows: Tensor) -> Tensor:
        number = norm(rows)
        if number.shape != rows.shape[:1]:
            raise ValueError(
                f"norm must map (B, n) to (B,), one number a sample: of {tuple(rows.shape)} it made "
                f"{tuple(number.shape)}; reduce dimension 1 alone, x.norm(dim=1)"
            )
        return number

    return measured(norm if _plain(norm) is not norm else checked, x, look=look)


def all_within(numbers: Tensor, least: float, most: float) -> bool:
    """Whether all numbers (B,) are from `least` to `most`; not where one is no number."""
    if numbers.numel() <= _FEW:
        listed = (numbers if numbers.dim() == 1 else numbers.flatten()).tolist()
        # The sum tells what is no number, which no minimum does.
        return not listed or (least <= min(listed) and max(listed) <= most and sum(listed) < math.inf)
    low, high = numbers.aminmax()
    return least <= low.item() and high.item() <= most


def _bounded(value: Tensor, number: Tensor) -> Tensor:
    """`value`, which only a `number` of 0 makes 0 and only one that is infinite or none makes infinite."""
    kind = torch.finfo(value.dtype)
    return torch.where(number == 0, 0.0, torch.where(number < torch.inf, value.clamp(kind.tiny, kind.max), value))


def _at_least_single(x: Tensor) -> Tensor:
    return x if x.dtype in _RANGES else x.float()


def _two(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1)


def _rms(x: Tensor) -> Tensor:
    return _two(x) / x.shape[1] ** 0.5


def _max(x: Tensor) -> Tensor:
    return x.abs().amax(1)  # vector_norm(ord=inf) is not vectorised: 15 times as slow for samples of 1e4 floats


def _plain(norm: Norm) -> Norm:
    """A norm without its own care for under- and overflow; a compiler has no dictionary of functions."""
    return _two if norm is two_norm else _rms if norm is rms_norm else _max if norm is max_norm else norm
