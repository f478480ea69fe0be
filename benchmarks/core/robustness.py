"""Three small classifiers trained with each solver and gradient, compared with torchdeq 0.1: docs/against-torchdeq.md.

    pip install --no-deps --target build/torchdeq torchdeq==0.1
    python -m benchmarks.core.robustness [--page docs/against-torchdeq.md]

Nothing is tuned: scikit-learn's digits, Adam, 20 evaluations, and each library's defaults for the rest. Many samples of
a batch therefore do not converge, and the treatment of their gradients decides the training.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu, scaled_dot_product_attention

import deq_core as deq
from benchmarks.core import torchdeq
from benchmarks.core.pages import markdown, with_table
from deq_core.experiment.files import write_text

Equilibrium = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""Solves z = f(z) from z0, with gradients, also in eval mode."""

STEPS, BATCH, TRAINING = 20, 50, 1000  # evaluations, batch size, training images


class Dense(nn.Module):
    """LayerNorm(relu(W z + U x)), z (B, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.inject, self.norm = nn.Linear(64, 64), nn.Linear(64, 64), nn.LayerNorm(64)

    def start(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 64)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.norm(relu(self.state(z) + self.inject(x)))


class Convolution(nn.Module):
    """A residual block of two convolutions with GroupNorm, z (B, 12, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.inject = nn.Conv2d(1, 12, 3, padding=1)
        self.one, self.two = nn.Conv2d(12, 16, 3, padding=1, bias=False), nn.Conv2d(16, 12, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(4, 16), nn.GroupNorm(4, 12), nn.GroupNorm(4, 12)])
        for layer in (self.one, self.two):
            nn.init.normal_(layer.weight, std=0.01)

    def start(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 12, 8, 8)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        inside, inner, outer = self.norms
        injected = self.inject(x.reshape(-1, 1, 8, 8))
        return outer(relu(z + inner(injected + self.two(inside(relu(self.one(z)))))))


class Attention(nn.Module):
    """A post-norm transformer block over the eight rows of an image, z (B, 8, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.inject, self.place = nn.Linear(8, 32), nn.Parameter(0.1 * torch.randn(8, 32))
        self.projected, self.mixed = nn.Linear(32, 3 * 32), nn.Linear(32, 32)
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.one, self.two = nn.LayerNorm(32), nn.LayerNorm(32)

    def start(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 8, 32)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        query, key, value = self.projected(z).reshape(len(z), 8, 3, 4, 8).permute(2, 0, 3, 1, 4)
        heads = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(z.shape)
        hidden = self.one(z + self.inject(x.reshape(-1, 8, 8)) + self.place + self.mixed(heads))
        return self.two(hidden + self.narrow(relu(self.wide(hidden))))


PROBLEMS: dict[str, tuple[type[Dense | Convolution | Attention], int]] = {
    "dense": (Dense, 8),
    "convolution": (Convolution, 2),
    "attention": (Attention, 3),
}
"""Cells, and the numbers of training epochs."""

EXACT = deq.Implicit(stop=deq.Stop(40, 1e-6), on_failure="ignore")


def ours(solver: deq.Solver, adjoint: deq.Adjoint) -> Equilibrium:
    """A layer of this library."""
    layer = deq.nn.DEQ(solver=solver, stop=deq.Stop(STEPS), adjoint=adjoint, on_failure="ignore")
    return lambda f, z0: layer(f, z0).value


def theirs(solver: str, **options: str) -> Equilibrium:
    """A layer of torchdeq with its implicit gradient."""
    from torchdeq import get_deq  # pyright: ignore[reportAttributeAccessIssue]  found once `torchdeq.use` has been called

    layer = get_deq(f_solver=solver, f_max_iter=STEPS, ift=True, **options)

    def solve(f: Callable[[Tensor], Tensor], z0: Tensor) -> Tensor:
        layer.train(torch.is_grad_enabled())
        return layer(f, z0)[0][-1]

    return solve


def ways() -> dict[str, Equilibrium]:
    """Solvers with their gradients, by the labels of the table."""
    few = deq.Implicit(on_failure="ignore")
    return {
        "Anderson": ours(deq.Anderson(), few),
        "Broyden": ours(deq.Broyden(), few),
        "Anderson, `Implicit(stop=Stop(40, 1e-6))`": ours(deq.Anderson(), EXACT),
        "Broyden, `Implicit(stop=Stop(40, 1e-6))`": ours(deq.Broyden(), EXACT),
        "torchdeq's Anderson": theirs("anderson"),
        "torchdeq's Broyden": theirs("broyden"),
        "torchdeq's Anderson, backward too": theirs("anderson", b_solver="anderson"),
        "torchdeq's Broyden, backward too": theirs("broyden", b_solver="broyden"),
    }


@dataclass(frozen=True)
class Trained:
    """Result of a training: accuracy on held-out images, largest gradient norm, CPU seconds."""

    accuracy: float
    gradient: float
    seconds: float


def digits() -> tuple[Tensor, Tensor]:
    """Shuffled images (1797, 64), from 0 to 1, and their classes."""
    images, classes = (torch.as_tensor(found) for found in load_digits(return_X_y=True))
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))
    return images[order].float() / 16, classes[order]


def train(problem: str, solve: Equilibrium, seed: int) -> Trained:
    """Trains a classifier; `seed` determines its weights and the order of the images."""
    begin = time.thread_time()
    images, classes = digits()
    kind, epochs = PROBLEMS[problem]
    torch.manual_seed(seed)
    cell = kind()
    head = nn.Linear(cell.start(images[:1]).numel(), 10)
    parameters, generator = [*cell.parameters(), *head.parameters()], torch.Generator().manual_seed(seed)

    def scores(x: Tensor) -> Tensor:
        return head(solve(lambda z: cell(z, x), cell.start(x)).flatten(1))

    optimiser, largest = torch.optim.Adam(parameters, lr=3e-3), 0.0
    for _ in range(epochs):
        for batch in torch.randperm(TRAINING, generator=generator).split(BATCH):
            optimiser.zero_grad()
            cross_entropy(scores(images[batch]), classes[batch]).backward()
            largest = max(largest, float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])))
            optimiser.step()
    with torch.no_grad():
        right = scores(images[TRAINING:]).argmax(1) == classes[TRAINING:]
    return Trained(float(right.float().mean()), largest, time.thread_time() - begin)


def cell_of_table(runs: list[Trained]) -> str:
    accuracies = [run.accuracy for run in runs]
    seconds = statistics.mean(run.seconds for run in runs)
    largest = max(run.gradient for run in runs)
    return f"{statistics.mean(accuracies):.3f} / {min(accuracies):.3f} / {largest:.0f} / {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    torchdeq.add_option(parser)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--page", type=Path, help="page whose table is replaced, such as docs/against-torchdeq.md")
    options = parser.parse_args()
    torchdeq.use(options.torchdeq)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SyntaxWarning)  # from torchdeq's docstrings
    rows = []
    for label, solve in ways().items():
        row = [cell_of_table([train(name, solve, seed) for seed in range(options.seeds)]) for name in PROBLEMS]
        rows.append([label, *row])
        print(" | ".join(rows[-1]), flush=True)
    if options.page is not None:
        table = markdown(["", *PROBLEMS], rows)
        write_text(options.page, with_table(options.page.read_text(), "trained beside torchdeq", table))


if __name__ == "__main__":
    main()
