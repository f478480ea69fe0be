"""Cost of a training step with each gradient, with and without correction: docs/deq-flow.md.

    python -m benchmarks.flow.gradient_costs [--params workflows/profiles/mini.yaml] [--repeats 20] [--write]

Networks, gradients, batch and crop are those of the study of gradients, `flow.gradients` in the parameters. "saved" is
the memory that autograd keeps for the backward pass (`saved_bytes`); it depends on shapes alone. "step" is the least
CPU time of loss and gradient in `--repeats` rounds, in which all networks take turns; on other machines only the ratio
is comparable.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.core.pages import markdown, with_table
from benchmarks.flow.inference_time import fastest
from benchmarks.flow.saved_bytes import saved_bytes
from benchmarks.flow.training_memory import step
from deq_core.experiment import config
from deq_core.experiment.files import write_text
from deq_flow.models import DEQFlow
from deq_flow.networks import build_network
from deq_flow.reports.gradients import FORMS
from deq_flow.studies.gradients import GradientStudy, variant

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deq-flow.md"
HEADER = ("gradient, supervised", "saved", "step", "ratio")


def networks(study: GradientStudy) -> dict[str, DEQFlow]:
    """The untrained networks of the study, by their names in the table."""
    found: dict[str, DEQFlow] = {}
    for method in study.methods:
        for form, said in FORMS.items():
            model = variant(study.model, corrected=form == "corrected")
            torch.manual_seed(0)
            network = build_network(model, adjoint=study.gradient[method].adjoints(model))
            assert isinstance(network, DEQFlow)
            found[f"{method}, {said}"] = network.train()
    return found


def measure(study: GradientStudy, repeats: int) -> list[list[str]]:
    """Rows of the table; ratios are relative to the cheapest step."""
    height, width = study.train.mix[0].augment.crop
    images = 255 * torch.rand(2, study.train.batch_size, 3, height, width, generator=torch.Generator().manual_seed(1))
    compared = networks(study)
    seconds = fastest([partial(step, each, *images) for each in compared.values()], repeats, time.process_time)
    return [
        [name, f"{saved_bytes(network, *images) / 1e6:.1f} MB", f"{taken:.3f} s", f"{taken / min(seconds):.2f}"]
        for (name, network), taken in zip(compared.items(), seconds, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and with --write writes it to the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--params", type=Path, default=ROOT / "workflows" / "profiles" / "mini.yaml")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table = markdown(HEADER, measure(config.load(GradientStudy, options.params, "flow.gradients"), options.repeats))
    print(table)
    if options.write:
        write_text(PAGE, with_table(PAGE.read_text(), "gradient-costs", table))


if __name__ == "__main__":
    main()
