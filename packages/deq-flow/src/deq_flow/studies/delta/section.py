"""The `delta` section of params.yaml: the parameters of the studies of the delta rule.

As in DeltaDEQ (Wang et al., NeurIPS 2024), they measure how much of an equilibrium solve can be skipped because parts
of the state have stopped changing: for flow networks, a sine fitted by a recurrent cell, and images.
"""

from dataclasses import dataclass
from typing import Literal

from deq_core.experiment.config import Budget, Name, Names, Seeds, require_keys
from deq_flow.studies.delta.convergence import Convergence
from deq_flow.studies.delta.field import Representation
from deq_flow.studies.delta.images import Images
from deq_flow.studies.delta.sine import Sine
from deq_flow.studies.delta.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class Delta:
    """One profile of the studies of the delta rule."""

    core_minutes: Budget | None = None
    seeds: Seeds
    """Seeds of the sine and the images."""
    methods: Names
    """Trained equilibrium networks to measure, keys of the flow section's `model`."""
    method_seeds: Seeds
    """Seeds of those networks, from the flow section."""
    stage: Literal["train", "things", "sintel", "kitti"]
    """Stage of the flow section's training after which they are measured; "train" is FlyingChairs."""
    shipped: Names
    """Checkpoints that the package ships to measure too, names of `networks.SHIPPED`."""
    sweep: dict[Name, Sweep]
    """Settings by network, an entry of `methods` or `shipped`."""
    convergence: dict[Name, Convergence]
    """Settings by network."""
    sine: dict[Name, Sine]
    """Fits by name."""
    images: Images
    representations: dict[Name, Representation]
    """Representations of that image, by name."""
    dpi: int
    """Resolution of maps within figures."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds: expected at least one seed")
        if self.methods and not self.method_seeds:
            raise ValueError("method_seeds: expected at least one seed, as there are methods")
        networks = (*self.methods, *self.shipped)
        if not networks or len(set(networks)) != len(networks):
            raise ValueError(f"methods, shipped: expected at least one network, each once, got {list(networks)}")
        require_keys("methods, shipped", networks, "sweep", self.sweep)
        require_keys("methods, shipped", networks, "convergence", self.convergence)
