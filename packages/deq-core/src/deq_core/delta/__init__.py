"""The delta rule (DeltaDEQ, Wang et al., NeurIPS 2024): layers that skip inputs which have already converged."""

from .meter import DeltaMeter as DeltaMeter
from .rule import to_delta as to_delta
