"""DeltaDEQ (Wang et al., NeurIPS 2024) on flow networks: thresholds, sets, starts and solvers; error against work."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import Solver
from deq_core.experiment.data.arrays import write_arrays
from deq_core.experiment.data.released import located
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued
from deq_core.experiment.rescue import tables as tables_of
from deq_core.experiment.tables import Row, numbers, write_rows
from deq_core.experiment.tracking.run import Log
from deq_flow.data.batches import FlowBatch
from deq_flow.data.samples import FlowSample, SampleSet
from deq_flow.delta_params import Example, Part, Start, Sweep
from deq_flow.delta_trial import Case, Trial
from deq_flow.models import DEQFlow
from deq_flow.models.network import Pair
from deq_flow.models.padding import Padding
from deq_flow.networks import load_network
from deq_flow.sets import SETS, SequenceSet


def cases(config: Sweep, starts: Sequence[Start]) -> list[Case]:
    """What is measured on a set: each solver densely after some numbers of steps, then each variant's thresholds."""
    found: list[Case] = []
    dense: set[tuple[Solver, Start]] = set()
    for name, variant in config.variants.items():
        for start in starts:
            plain: Start = "reuse" if start == "stream" else start  # a dense solve has no memories to keep
            if (variant.solver, plain) not in dense:
                dense.add((variant.solver, plain))
                stops = [deq.Stop(max_steps=steps, tol=None) for steps in config.dense_steps]
                found += [Case(name, variant.solver, stop, plain) for stop in stops]
            stop, rule = variant.stop.build(), variant.rule
            found += [Case(name, variant.solver, stop, start, rule, threshold) for threshold in rule.thresholds]
    return found


def scenes(pairs: SampleSet, part: Part) -> list[range]:
    """Indices of the pairs of each video; single pairs are videos of one."""
    if isinstance(pairs, SequenceSet):
        return [scene[: part.frames] for scene in islice(pairs.sequences().values(), part.sequences)]
    if set(part.starts) != {"cold"}:
        raise ConfigError(f"starts: single pairs start cold, got {', '.join(part.starts)}")
    return [range(index, index + 1) for index in range(len(pairs))][: part.sequences]


def groups(pairs: SampleSet, part: Part, batch_size: int) -> Iterator[list[range]]:
    """Up to `batch_size` consecutive scenes of as many pairs, whose images have one shape."""
    group: list[range] = []
    kind = None
    for scene in scenes(pairs, part):
        found = (len(scene), pairs[scene[0]].image1.shape)
        if group and (len(group) == batch_size or found != kind):
            yield group
            group = []
        group.append(scene)
        kind = found
    if group:
        yield group


def sweep(
    model: DEQFlow, name: str, pairs: SampleSet, config: Sweep, *, trials: list[Trial] | None = None
) -> list[Trial]:
    """Every case of `config` on the set `name`; each pair is encoded once for all of them.

    Args:
        model: the network.
        name: of the set, a key of `config.sets`.
        pairs: the set.
        config: what is measured.
        trials: receives the cases before the first is measured, and is returned; a new list by default.

    Raises:
        NonFiniteError: the flow of a pair is not finite in one of the cases.
    """
    part = config.sets[name]
    trials = [] if trials is None else trials
    trials[:] = [Trial(model, case, config.skip) for case in cases(config, part.starts)]
    first: list[Tensor | None] = []
    for group in groups(pairs, part, config.batch_size):
        for trial in trials:
            trial.begin()
        for indices in zip(*group, strict=True):
            samples = [pairs[index] for index in indices]
            pair, padding = encode(model, samples, SETS[name].padding)
            for trial in trials:
                trial.solve(pair, padding, samples, of=name)
        first = first or [trial.example for trial in trials]
    for trial, maps in zip(trials, first, strict=True):
        trial.example = maps
    return trials


@torch.no_grad()
def encode(model: DEQFlow, samples: Sequence[FlowSample], mode: Literal["centre", "bottom"]) -> tuple[Pair, Padding]:
    """The pairs of some samples of one shape as the network sees them, and how they were padded before."""
    batch = FlowBatch.collate(samples).to(model.fnet.conv1.weight.device)
    height, width = batch.valid.shape[1:]
    padding = Padding(height, width, model.size.scale, mode)
    return model.encode(padding.pad(batch.image1), padding.pad(batch.image2)), padding


def evaluate_delta(model: Path, config: Sweep, *, data: Path, out: Path, log: Log) -> dict[str, float]:
    """Measures the trained equilibrium network in the folder `model` under the delta rule.

    Writes to `out`: sweep.csv (a row a set and case), samples.csv (a row a pair), layers.csv, evaluations.csv,
    maps.npz and metrics.json.

    Returns:
        {"set.variant.start.threshold.quantity": value} of epe, macs_saved and release_saved.
    """
    torch.set_num_threads(config.threads)
    network = equilibrium_network(model).to(config.device)
    tables: dict[str, list[Row]] = {"sweep": [], "samples": [], "layers": [], "evaluations": []}
    maps: dict[str, Tensor] = {}
    for name, pairs in labelled(data, tuple(config.sets)).items():
        trials: list[Trial] = []
        with rescued(out, measured(tables["samples"], trials, name)):
            sweep(network, name, pairs, config, trials=trials)
        tables["sweep"] += [trial.row(name) for trial in trials]
        tables["samples"] += [row for trial in trials for row in trial.by_sample(name)]
        tables["layers"] += [row for trial in trials for row in trial.by_layer(name)]
        tables["evaluations"] += [row for trial in trials for row in trial.by_evaluation(name)]
        if name == config.example.set:
            maps = example(trials, pairs, config.sets[name], config.example)
    metrics = named(tables["sweep"])
    log(metrics)
    with output_directory(out) as partial:
        for name, rows in tables.items():
            write_rows(partial / f"{name}.csv", rows)
        write_arrays(partial / "maps.npz", maps)
        write_json(partial / "metrics.json", metrics)
    return metrics


def measured(before: Sequence[Row], trials: Sequence[Trial], name: str) -> Callable[[Path], None]:
    """What `rescued` writes: samples.csv of the sets before and of what the trials have seen of the set `name`."""
    return lambda folder: tables_of(
        {"samples": [*before, *(row for trial in trials for row in trial.by_sample(name))]}
    )(folder)


def equilibrium_network(folder: Path) -> DEQFlow:
    """The trained network in `folder`, which must be an equilibrium network."""
    network = load_network(folder)
    if not isinstance(network, DEQFlow):
        raise CheckpointError(f"{folder}: expected an equilibrium network, got {type(network).__name__}")
    return network


def labelled(data: Path, names: Sequence[str]) -> dict[str, SampleSet]:
    """The sets of these names in the pipeline's folder `data`."""
    if unknown := [name for name in names if name not in SETS]:
        raise ConfigError(f"sets: expected names of {', '.join(SETS)}, got {', '.join(unknown)}")
    return {name: SETS[name].read(located(data)) for name in names}


def example(trials: Sequence[Trial], pairs: SampleSet, part: Part, chosen: Example) -> dict[str, Tensor]:
    """The last pair of the first scene, and by the start of its solve, which cells still changed."""
    maps = {
        trial.case.start: trial.example
        for trial in trials
        if (trial.case.variant, trial.case.threshold) == (chosen.variant, chosen.threshold)
        and trial.example is not None
    }
    return {"image": pairs[scenes(pairs, part)[0][-1]].image1, **maps}


def named(rows: Sequence[Row]) -> dict[str, float]:
    """The main numbers of the rows of a sweep under one name each."""
    found: dict[str, float] = {}
    for row in rows:
        how = f"dense-{row['max_steps']}" if row["threshold"] is None else f"{row['threshold']:g}"
        for key in ("epe", "f1_all", "macs_saved", "release_saved"):
            if key in row:
                found[f"{row['set']}.{row['variant']}.{row['start']}.{how}.{key}"] = numbers([row], key)[0]
    return found
