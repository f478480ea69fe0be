"""Norms of a flat state, (B, n) → (B,), without under- or overflow."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .modes import may_look

Norm = Callable[[Tensor], Tensor]


class _Range(NamedTuple):
    """The range in which a dtype's squares are safe, and factors that bring rows into it.

    Attributes:
        dtype: real dtype of the norms.
        least: least root mean square of a row: squares of elements down to a thousandth of it are normal numbers.
        most: largest finite number.
        lift, drop: factors for rows below and above the range: powers of two, so that scaling is exact.
    """

    dtype: torch.dtype
    least: float
    most: float
    lift: float
    drop: float


_SINGLE = _Range(torch.float32, 3.2e-16, torch.finfo(torch.float32).max, 2.0**100, 2.0**-90)
_DOUBLE = _Range(torch.float64, 1.0e-146, torch.finfo(torch.float64).max, 2.0**700, 2.0**-700)
_RANGES = {torch.float32: _SINGLE, torch.complex64: _SINGLE, torch.float64: _DOUBLE, torch.complex128: _DOUBLE}

# Up to this many numbers are compared on the host, which is faster than operations on tiny tensors.
_FEW = 128


def two_norm(x: Tensor) -> Tensor:
    """Euclidean norm of each sample of x (B, n), (B,), in at least float32.

    It is accurate for all finite elements, even where their squares would under- or overflow.
    """
    return measured(two_norm, x, look=may_look(x)).value()


def rms_norm(x: Tensor) -> Tensor:
    """Root mean square of each sample of x (B, n), (B,): the Euclidean norm divided by √n."""
    return measured(rms_norm, x, look=may_look(x)).value()


def max_norm(x: Tensor) -> Tensor:
    """Largest magnitude in each sample of x (B, n), (B,)."""
    return _max(_at_least_single(x))


NORMS = (two_norm, rms_norm, max_norm)


class Length(NamedTuple):
    """The norm of each sample, scaled so that it may exceed the range of its dtype.

    Attributes:
        number: (B,) the norm times `scale`.
        scale: (B,) powers of two; None stands for 1.
    """

    number: Tensor
    scale: Tensor | None = None

    def value(self) -> Tensor:
        """(B,) the norm; infinite where it overflows."""
        return self.number if self.scale is None else self.number / self.scale

    def bounded(self) -> Tensor:
        """(B,) the norm: 0 only where it is exactly 0, and the nearest normal number where it under- or overflows."""
        return self.number if self.scale is None else _bounded(self.value(), self.number)

    def over(self, other: "Length") -> Tensor:
        """(B,) the ratio of two norms, bounded in the same way."""
        ratio = self.number / other.number
        if self.scale is None and other.scale is None:
            return ratio
        own = 1.0 if self.scale is None else self.scale
        others = torch.ones_like(other.number) if other.scale is None else other.scale
        ratio = ratio * (others / own)
        return _bounded(torch.where(other.number < torch.inf, ratio, torch.inf), self.number)


def measured(norm: Norm, x: Tensor, *, look: bool) -> Length:
    """`norm` of each sample of x (B, ...), without under- or overflow.

    Rows out of the safe range are scaled into it for any norm, since a user's norm may square its elements too. It
    takes one pass if all norms are in the range and `look` allows the host to check that.
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
        ValueError: the norm does not give one number for each row of x (B, n).
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
    """Whether all numbers (B,) are from `least` to `most`; False if one is NaN."""
    if numbers.numel() <= _FEW:
        listed = (numbers if numbers.dim() == 1 else numbers.flatten()).tolist()
        # The sum shows a NaN, which min and max may miss.
        return not listed or (least <= min(listed) and max(listed) <= most and sum(listed) < math.inf)
    low, high = numbers.aminmax()
    return least <= low.item() and high.item() <= most


def _bounded(value: Tensor, number: Tensor) -> Tensor:
    """`value`, 0 only where `number` is 0, and infinite or NaN only where `number` is."""
    kind = torch.finfo(value.dtype)
    return torch.where(number == 0, 0.0, torch.where(number < torch.inf, value.clamp(kind.tiny, kind.max), value))


def _at_least_single(x: Tensor) -> Tensor:
    return x if x.dtype in _RANGES else x.float()


def _two(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1)


def _rms(x: Tensor) -> Tensor:
    return _two(x) / x.shape[1] ** 0.5


def _max(x: Tensor) -> Tensor:
    return x.abs().amax(1)  # vector_norm(ord=inf) is not vectorised: 15 times slower for samples of 1e4 floats


def _plain(norm: Norm) -> Norm:
    """The plain formula of our norms, any other norm itself; torch.compile cannot look up functions in a dict."""
    return _two if norm is two_norm else _rms if norm is rms_norm else _max if norm is max_norm else norm
