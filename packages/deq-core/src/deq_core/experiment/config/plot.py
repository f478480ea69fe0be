"""Configuration of figures."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Resolution of figures and smoothing of their curves."""

    dpi: int = 120
    smoothing: int = 20
    """Number of training steps averaged for each point of a learning curve."""
