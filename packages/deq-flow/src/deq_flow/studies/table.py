"""The main table: all trained networks, and baselines without learning, on the sets with ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Once
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.data.released import located
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.stage import Job, Single, Stage
from deq_core.experiment.tables import numbers
from deq_flow.data.batches import FlowBatch
from deq_flow.data.samples import SampleSet
from deq_flow.evaluation.baselines import Baseline, dis, zero
from deq_flow.evaluation.evaluate import Evaluation, Method, Prediction, evaluate, labelled_sets, summary
from deq_flow.evaluation.sets import SETS
from deq_flow.finite import require_finite
from deq_flow.inference import Estimator, PaddingMode
from deq_flow.inference_params import Inference
from deq_flow.networks import Network, load


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Settings of the evaluation of trained models and baselines."""

    sets: Once[str] = ("sintel_clean", "sintel_final", "kitti", "motorcycle")
    """Sets with ground truth; see `evaluation.sets.SETS`."""
    stop: StopConfig | None = None
    """Stop of the equilibrium solve at test time; None is each model's own."""
    unrolled_steps: int | None = None
    """Number of iterations of unrolled models at test time; None is each model's own."""
    sweep: int
    """Iteration up to which error and residual are measured after each; with several scales, those of the finest."""
    batch_size: int = 8
    example: int = 0
    """Index of the pair of the first set in the example figure."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of networks; baselines have none."""
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("evaluate.sets: expected at least one")
        if min(self.sweep, self.batch_size, self.threads) < 1:
            raise ValueError(
                "evaluate: sweep, batch_size and threads must be at least 1, got "
                f"{self.sweep}, {self.batch_size} and {self.threads}"
            )


def measure(job: Job[Measured, Evaluate]) -> Mapping[str, Any]:
    """Metrics of each set; the tables are `samples`, by pair, and `steps`, by set and iteration, the arrays `example`.

    Raises:
        NonFiniteError: the flow of a pair is not finite.
    """
    config = job.settings
    torch.set_num_threads(config.threads)
    sets = labelled_sets(located(job.data), config.sets)
    network = load(job.network).to(distributed.device(config.device))
    found = Evaluation(job.tables["samples"], job.tables["steps"])
    for name, pairs in sets.items():
        method = network_method(network, config, padding=SETS[name].padding)
        evaluate(method, {name: pairs}, batch_size=config.batch_size, found=found)
    for row in found.steps:
        names = [key for key in row if key not in ("set", "step")]
        values = {f"{row['set']}.{key}_at_step": numbers([row], key)[0] for key in names}
        job.log(values, int(numbers([row], "step")[0]))
    shown = config.sets[0]
    estimate = Estimator(network, inference(config), padding=SETS[shown].padding)
    job.arrays["example"] = example(estimate, sets[shown], config.example)
    return summary(found.samples)


def measure_peers(job: Job[Single, tuple[Evaluate, Mapping[str, Baseline]]]) -> Mapping[str, Any]:
    """Metrics of each method and set; the table is `samples`."""
    config, peers = job.settings
    sets = labelled_sets(located(job.data), config.sets)
    methods: dict[str, Method] = {"zero": zero, **{name: dis(peer) for name, peer in peers.items()}}
    metrics: dict[str, Any] = {}
    for name, method in methods.items():
        found = Evaluation()
        try:
            evaluate(method, sets, batch_size=config.batch_size, found=found)
        finally:  # keeps the rows of the pairs before one whose flow is not finite
            job.tables["samples"] += [{"method": name, **row} for row in found.samples]
        metrics[name] = summary(found.samples)
    return metrics


def inference(config: Evaluate) -> Inference:
    """Options of inference of the pipeline."""
    return Inference(stop=config.stop, steps=config.unrolled_steps)


def network_method(network: Network, config: Evaluate, *, padding: PaddingMode = "centre") -> Method:
    """A network as a method: its prediction, and its trajectory over `config.sweep` iterations, from one solve."""
    estimate = Estimator(network, inference(config), padding=padding)
    longest = max(config.sweep, estimate.steps)

    def predict(batch: FlowBatch) -> Prediction:
        output = estimate(batch.image1, batch.image2, steps=longest, record=range(1, longest + 1))
        flows = [flow.cpu() for flow in output.flows]
        residuals = None if output.solution is None else output.solution.residuals(config.sweep).cpu()
        return Prediction(flows[estimate.steps - 1], flows[: config.sweep], residuals)

    return predict


def example(estimate: Estimator, pairs: SampleSet, index: int) -> dict[str, Tensor]:
    """Images, true flow and predicted flow of one pair, for a figure."""
    if not 0 <= index < len(pairs):
        raise ValueError(f"evaluate.example: expected a pair from 0 to {len(pairs) - 1}, got {index}")
    sample = pairs[index]
    flow = estimate(sample.image1[None], sample.image2[None]).flow[0].cpu()
    require_finite(flow, sample.name)
    shown = {"image1": sample.image1, "image2": sample.image2, "target": sample.flow, "valid": sample.valid}
    return {**shown, "flow": flow}


EVALUATE = Stage(
    name="flow.evaluate",
    section="flow",
    case=Measured,
    settings=lambda section, case: section.load(Evaluate, "evaluate"),
    run=measure,
)
BASELINES = Stage(
    name="flow.baselines",
    section="flow",
    case=Single,
    settings=lambda section, case: (
        section.load(Evaluate, "evaluate"),
        section.load(dict[Name, Baseline], "baselines"),
    ),
    run=measure_peers,
)
