"""Compatibility: configurations of torchdeq, and solves by the rules of the released MDEQ and DEQ-Transformer code."""

from .released import ReleasedSolution as ReleasedSolution
from .released import released_fixed_point as released_fixed_point
from .torchdeq import TorchDEQ as TorchDEQ
from .torchdeq import from_torchdeq as from_torchdeq
