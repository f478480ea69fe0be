"""The command that generates text from a prompt; it takes options only and reads no params.yaml."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Annotated

import torch

import deq_core as deq
from deq_core.experiment.commands import default
from deq_core.experiment.config import ConfigError, Seed
from deq_core.experiment.device import chosen_device
from deq_core.experiment.errors import NonFiniteError
from deq_sequence.demo.generate import Drawn, initial
from deq_sequence.demo.generate import generate as continuations
from deq_sequence.demo.incremental_decoder import IncrementalDecoder
from deq_sequence.demo.prompt import PromptError, encode_prompt, unknown_tokens
from deq_sequence.demo.sampling import Sampling
from deq_sequence.initialisation import Initialisation
from deq_sequence.models import DEQTransformer
from deq_sequence.models.reader import Reader
from deq_sequence.networks import load, load_vocabulary


def generate(
    prompt: str,
    checkpoint: str = "default",
    *,
    length: int = 400,
    temperature: float = 0.8,
    top_k: Annotated[int | None, default("all tokens")] = None,
    top_p: float = 0.95,
    seed: Seed = 0,
    start: Annotated[Initialisation | None, default("token; of an unrolled network, cold")] = None,
    context: Annotated[int | None, default("the network's memory")] = None,
    steps: Annotated[int | None, default("the checkpoint's")] = None,
    tolerance: Annotated[float | None, default("the checkpoint's")] = None,
    device: str = "cpu",
) -> None:
    """Continues a text, and prints each token as it is drawn. A last line on stderr says what the solves took.

    Ctrl-C stops it. The same seed gives the same text on the same machine.

    Args:
        prompt: beginning of the text, printed too; `-` reads it from stdin.
        checkpoint: a folder written by training, or a weights file in it (vocabulary.json must be there); or default,
            the shipped network.
        length: number of tokens to draw.
        temperature: divisor of the logits; 0 always takes the most probable token.
        top_k: draw from the k most probable tokens only.
        top_p: draw from the smallest set of most probable tokens with at least this total probability.
        seed: random seed of the draws.
        start: initial state of a new position: cold (zero), previous (the state of the position before), or token (the
            state of the last position with the same token).
        context: number of earlier positions that a token attends to.
        steps: maximum number of evaluations of the cell in a solve, or the depth of an unrolled network.
        tolerance: relative residual at which a solve ends.
        device: auto, cpu, cuda or cuda:N. For a single text the CPU is faster unless the network is large.
    """
    if length < 1:
        raise ConfigError(f"length: expected at least 1 token, got {length}")
    place = chosen_device(device)
    model = load(checkpoint).to(place)
    vocabulary = load_vocabulary(checkpoint, model)
    tokens = torch.from_numpy(encode_prompt(vocabulary, read_stdin() if prompt == "-" else prompt)).long()
    try:
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, never=unknown_tokens(vocabulary))
        reader = Reader(stopping(model, steps, tolerance), context=context)
        start = initial(model, start)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    drawn = continuations(reader, tokens.to(place), sampling, seed=seed, start=start)
    with deq.cached_weights():  # weight normalisation once for all solves
        show(vocabulary.decode(tokens.tolist()), islice(drawn, length), IncrementalDecoder(vocabulary))


def read_stdin() -> str:
    """Reads the prompt from stdin; raises PromptError if it is not text."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise PromptError(f"the prompt is not text in {error.encoding} ({error}); convert it first") from error


def stopping(model: DEQTransformer, steps: int | None, tolerance: float | None) -> DEQTransformer:
    """Sets the stopping rule of `model`; None keeps a value. Raises ValueError for an invalid number."""
    choice = model.equilibrium
    if choice.steps is not None:
        if tolerance is not None:
            raise ValueError("tolerance: an unrolled network has no fixed point; --steps is its depth")
        model.equilibrium = replace(choice, steps=choice.steps if steps is None else steps)
        return model
    stop = choice.eval_stop or choice.stop
    asked = replace(
        stop,
        max_steps=stop.max_steps if steps is None else steps,
        tol=stop.tol if tolerance is None else tolerance,
    )
    model.equilibrium = replace(choice, eval_stop=asked)
    return model


def show(prompt: str, drawn: Iterator[Drawn], stream: IncrementalDecoder) -> None:
    """Prints a text token by token, then a summary of the solves on stderr, even if interrupted."""
    tokens, evaluations, log_prob = 0, 0, 0.0
    ended: KeyboardInterrupt | None = None
    began = time.perf_counter()
    try:
        write(prompt)
        for one in drawn:
            if tokens == 0:
                began = time.perf_counter()  # the prompt has been read
            write(stream.push(one.token))
            evaluations += one.solution.nfe if tokens else 0
            tokens += 1
            log_prob += one.log_prob
        write(stream.finish())
    except KeyboardInterrupt as error:
        ended = error
    except NonFiniteError:
        write("\n")  # ends the line of the text before the error
        raise
    write("\n")
    if tokens > 1:
        seconds = time.perf_counter() - began
        print(
            f"{tokens} tokens, {(tokens - 1) / seconds:.0f} per second, {evaluations / (tokens - 1):.1f} evaluations "
            f"per token, {-log_prob / tokens:.2f} nats per token",
            file=sys.stderr,
        )
    if ended is not None:
        raise ended


def write(text: str) -> None:
    """Prints text without buffering; characters missing from the terminal's encoding become question marks."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="replace").decode(encoding), end="", flush=True)
