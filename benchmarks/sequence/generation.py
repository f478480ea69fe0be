"""Cost of a token when a language model reads a text token by token: docs/sequence.md.

    python -m benchmarks.sequence.generation [--checkpoint DIR] [--tokens 400] [--write]

Every way reads the same text, the beginning of the corpus's validation text:

whole window   solves for all tokens of the window at every token, as without a key-value cache; from zeros, or from the
               equilibria of the earlier tokens (zeros for the new one)
new position   `Reader`: solves for the new position alone, from one of the starts of `deq-sequence generate --start`

evaluations    evaluations of the cell per token, and the same times the positions in each
difference     largest difference of a log-probability, while the window is not full, from that of solves to 1e-6
time           CPU time per token, relative to that of the first way; all ways run in one process on one thread
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core.pages import markdown, with_table
from deq_core.experiment.files import write_text
from deq_sequence import DEQTransformer, load, load_vocabulary
from deq_sequence.data.mini import mini
from deq_sequence.initialisation import Initialisation, InitialStates
from deq_sequence.models.reader import Reader

PAGE = Path(__file__).parents[2] / "docs" / "sequence.md"
HEADER = ("solve of", "start", "tolerance", "evaluations", "x positions", "perplexity", "difference", "time")
STARTS: tuple[Initialisation, ...] = ("cold", "previous", "token")

Read = Iterator[tuple[Tensor, int, int]]
"""For each token the log-probabilities after it, evaluations, and positions in each evaluation."""


@dataclass
class Cost:
    """Total cost of a way of reading, over all tokens."""

    evaluations: int = 0
    positions: int = 0
    seconds: float = 0.0
    log_probs: list[Tensor] = field(default_factory=list)


def by_position(model: DEQTransformer, text: Tensor, start: Initialisation) -> Read:
    """Solves for the new position alone."""
    reader, starts, past = Reader(model), InitialStates(start), None
    for token in text.reshape(-1, 1, 1):
        reading = reader.read(token, past, start=starts.begin(token))
        past = reading.past
        starts.see(token, reading.solution.value)
        yield reading.log_probs[0, -1], reading.solution.nfe, 1


@torch.no_grad()
def by_window(model: DEQTransformer, text: Tensor, *, warm: bool) -> Read:
    """Solves for the whole window: as many tokens as the reader sees, and the new one."""
    states = None
    for end in range(1, len(text) + 1):
        tokens = text[None, max(0, end - model.equilibrium.memory - 1) : end]
        if states is not None:
            known = states[:, states.shape[1] + 1 - tokens.shape[1] :]
            states = torch.cat([known, torch.zeros_like(known[:, :1])], dim=1)
        output = model(tokens, start=states)
        states = output.solution.value if warm else None
        assert output.log_probs is not None
        yield output.log_probs[0, -1], output.solution.nfe, tokens.shape[1]


def cost(read: Callable[[], Read]) -> Cost:
    """Reads the text and measures the cost."""
    found = Cost()
    began = time.process_time()
    with deq.cached_weights():
        for log_probs, evaluations, positions in read():
            found.log_probs.append(log_probs)
            found.evaluations += evaluations
            found.positions += evaluations * positions
    found.seconds = time.process_time() - began
    return found


def solved(model: DEQTransformer, stop: deq.Stop) -> DEQTransformer:
    """Sets the stopping rule of `model` in evaluation, and returns it."""
    model.equilibrium = replace(model.equilibrium, eval_stop=stop)
    return model


def measure(model: DEQTransformer, text: Tensor, tolerances: Sequence[float], window_tolerance: float) -> str:
    """Table of all ways of reading `text` (tokens,)."""
    early = min(len(text), model.equilibrium.memory)
    targets = text[1:]
    exact = cost(lambda: by_position(solved(model, deq.Stop(200, tol=1e-6)), text[:early], "cold")).log_probs
    rows: list[list[str]] = []
    first: Cost | None = None
    ways: list[tuple[str, str, float, Callable[[], Read]]] = [
        ("whole window", "cold", window_tolerance, partial(by_window, model, text, warm=False)),
        ("whole window", "warm", window_tolerance, partial(by_window, model, text, warm=True)),
    ]
    for tolerance in tolerances:
        ways += [("new position", start, tolerance, partial(by_position, model, text, start)) for start in STARTS]
    for what, start, tolerance, read in ways:
        solved(model, deq.Stop(60, tol=tolerance))
        found = cost(read)
        first = first or found
        log_probs = torch.stack(found.log_probs)
        nats = -log_probs[:-1].gather(1, targets[:, None]).mean()
        difference = float((log_probs[:early] - torch.stack(exact)).abs().max())
        rows.append(
            [
                what,
                start,
                f"{tolerance:.0e}",
                f"{found.evaluations / len(text):.1f}",
                f"{found.positions / len(text):.1f}",
                f"{math.exp(float(nats)):.3f}",
                f"{difference:.1e}",
                f"{found.seconds / first.seconds:.2f}",
            ]
        )
        print(" | ".join(rows[-1]), flush=True)
    return markdown(HEADER, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes it to the page with `--write`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", default="default", help="a folder that training wrote; the one that ships")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-2, 1e-3, 1e-4])
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = load(options.checkpoint)
    text = torch.from_numpy(load_vocabulary(options.checkpoint, model).encode(mini().lines("valid"))).long()
    table = measure(model, text[: options.tokens], options.tolerances, window_tolerance=1e-3)
    print(table)
    if options.write:
        write_text(PAGE, with_table(PAGE.read_text(), "generation", table))


if __name__ == "__main__":
    main()
