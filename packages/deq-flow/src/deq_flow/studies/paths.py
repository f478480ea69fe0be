"""Path independence of equilibrium networks: their flow from several starts, and after further evaluations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Names, Once, require_keys
from deq_core.experiment.data.batches import Spaced
from deq_core.experiment.data.released import located
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.paths import Followed, Paths
from deq_core.experiment.study.problem import Problem, State
from deq_core.experiment.study.stage import Job, Stage
from deq_flow.data.batches import FlowBatch, same_shape
from deq_flow.data.samples import SampleSet
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.metrics import epe
from deq_flow.models import DEQFlow
from deq_flow.studies.equilibrium import encode, equilibrium_network

SPREAD = 2.0
"""Standard deviation of the smooth flow of a random state, cells."""


@dataclass(frozen=True, kw_only=True)
class FlowPaths(Paths):
    """The pairs of the study of a network; they have one scale, the original size, whatever the network's scales."""

    sets: Once[str]
    """Sets with ground truth; see `evaluation.sets.SETS`."""


@dataclass(frozen=True, kw_only=True)
class PathStudy:
    """The networks of the study, with the settings of each."""

    methods: Names
    """Trained equilibrium networks, keys of `model`."""
    shipped: Names = ()
    """Checkpoints that the package ships, names of `networks.SHIPPED`."""
    measure: dict[Name, FlowPaths]
    """Settings by network."""

    def __post_init__(self) -> None:
        require_keys("methods, shipped", (*self.methods, *self.shipped), "measure", self.measure)


def problems(model: DEQFlow, pairs: SampleSet, config: FlowPaths, *, of: str) -> Iterator[Problem]:
    """The fixed-point problems of pairs of the set `of`, in batches of one shape."""
    for samples in same_shape(Spaced(pairs, config.samples), config.batch_size):
        pair, padding = encode(model, samples, of=of)
        device = pair.grid.device
        batch = FlowBatch.collate(samples).to(device)
        f, start = model.map(pair), model.start(pair)
        origin = start[1]  # subtracted from positions, relative to which changes of flow would look too small

        def moved(hidden: Tensor, flow: Tensor, *, f: Any = f, origin: Tensor = origin) -> State:
            hidden, unknown = f(hidden, flow + origin)
            return hidden, unknown - origin

        def answer(hidden: Tensor, flow: Tensor, *, pair: Any = pair, padding: Any = padding) -> Tensor:
            return padding.crop(pair.finish(flow, hidden))

        def error(flow: Tensor, *, batch: FlowBatch = batch) -> Tensor:
            return epe(flow, batch.flow, batch.valid)

        yield Problem(
            names=[sample.name for sample in samples],
            parts=("hidden", "flow"),
            f=moved,
            zero=(start[0], start[1] - origin),
            answer=answer,
            distance=lambda one, other: (one - other).norm(dim=1).mean((1, 2)),
            error=error,
            draw=drawn,
        )


def drawn(like: State, generator: torch.Generator | None) -> State:
    """A random state: a hidden state of uniform numbers from -1 to 1, as of tanh, and a smooth flow of a few cells."""
    hidden, flow = like
    grid = torch.randn(len(flow), 2, 4, 5, generator=generator).to(flow)
    smooth = F.interpolate(SPREAD * grid, flow.shape[2:], mode="bilinear", align_corners=True)
    return 2 * torch.rand(hidden.shape, generator=generator).to(hidden) - 1, smooth


def measure(job: Job[Measured, FlowPaths]) -> Mapping[str, Any]:
    """{set: metrics} of a network, from `Followed.summary`; the tables are those of `Followed.tables`.

    Raises:
        CheckpointError: it is not an equilibrium network.
        NonFiniteError: a flow is not finite.
    """
    config = job.settings
    torch.set_num_threads(config.threads)
    model = equilibrium_network(job.network).to(distributed.device(config.device))
    metrics = {}
    for name, pairs in labelled_sets(located(job.data), config.sets).items():
        found = Followed(config)
        for problem in problems(model, pairs, config, of=name):
            found.add(problem)
        for table, rows in found.tables(set=name).items():
            job.tables[table] += rows
        metrics[name] = found.summary()
    return metrics


PATHS = Stage(
    name="flow.paths",
    section="flow",
    case=Measured,
    settings=lambda section, case: section.load(FlowPaths, f"paths.measure.{case.network}"),
    run=measure,
)
