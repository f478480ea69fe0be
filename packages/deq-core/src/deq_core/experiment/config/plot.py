"""The look of figures, as params.yaml writes it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Look of the figures."""

    dpi: int = 120
    smoothing: int = 20
    """Training steps averaged for one point of a learning curve."""
