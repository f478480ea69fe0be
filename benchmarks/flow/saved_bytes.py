"""Memory saved for the backward pass of a training step: DEQ-Flow against RAFT of the same size and iterations.

    python -m benchmarks.flow.saved_bytes [--size mini] [--batch 2] [--height 64] [--width 96]

It counts, by `torch.autograd.graph.saved_tensors_hooks`, the storages that the graph of one forward pass keeps alive,
each once, without the parameters. The count depends on shapes alone, not on the machine. "update only" leaves out
encoders and correlation volume, which both kinds of network share.
"""

import argparse

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.study.training_costs import saved_bytes as counted
from deq_flow import build, sequence_loss
from deq_flow.models.network import FlowNetwork


def saved_bytes(model: FlowNetwork, image1: Tensor, image2: Tensor, *, encoders_only: bool = False) -> int:
    """Bytes saved by the forward pass and loss of a training step, or only by encoding the pair."""
    target = image1.new_zeros(len(image1), 2, *image1.shape[2:])
    valid = torch.ones_like(target[:, 0], dtype=torch.bool)

    def forward() -> object:
        if encoders_only:
            return model.encode(image1, image2)
        return sequence_loss(model(image1, image2).flows, target, valid)

    return counted(model.parameters(), forward)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="mini", help="network size that both kinds have, such as mini or base")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--iterations", type=int, nargs="+", default=[6, 12, 24])
    options = parser.parse_args()

    torch.manual_seed(0)
    images = [255 * torch.rand(options.batch, 3, options.height, options.width) for _ in range(2)]
    raft_name = "raft" if options.size == "base" else f"raft-{options.size}"
    print(f"{options.size}, batch {options.batch}, {options.height}x{options.width}; MB saved for backward")
    print("| iterations | RAFT | DEQ | DEQ, 1 correction | ratio | ratio, 1 correction | ratio, update only |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for iterations in options.iterations:
        stop = deq.Stop(max_steps=iterations, tol=None)
        choices = {"stop": stop, "adjoint": deq.Phantom(steps=1)}
        raft = build(raft_name, steps=iterations)
        plain = build(f"deq-flow-{options.size}", **choices, correction=())
        corrected = build(f"deq-flow-{options.size}", **choices, correction=(iterations // 2,))
        unrolled, one, two = (saved_bytes(model.train(), *images) for model in (raft, plain, corrected))
        shared = [saved_bytes(model, *images, encoders_only=True) for model in (raft, plain)]
        update = (unrolled - shared[0]) / (one - shared[1])
        megabytes = " | ".join(f"{count / 1e6:.1f}" for count in (unrolled, one, two))
        print(f"| {iterations} | {megabytes} | {unrolled / one:.1f} | {unrolled / two:.1f} | {update:.1f} |")


if __name__ == "__main__":
    main()
