"""Loads and saves networks: our files, released ones, and those shipped with the package."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deq_core.experiment import config
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config.layer import LayerConfig
from deq_sequence.config import Architecture, Equilibrium
from deq_sequence.data import vocabulary as vocabularies
from deq_sequence.data.corpora import CorpusError
from deq_sequence.data.vocabulary import Vocabulary
from deq_sequence.models.build import split
from deq_sequence.models.compat.convert import load_released
from deq_sequence.models.transformer import DEQTransformer

SHIPPED: dict[str, Path] = {"default": Path(__file__).parent / "checkpoints" / "default"}
"""Checkpoints shipped with the package: name to folder."""
VOCABULARY = "vocabulary.json"
"""File beside a checkpoint with its vocabulary; see `data.vocabulary`."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Contents of config.json beside a checkpoint: the network without its weights."""

    architecture: Architecture
    layer: LayerConfig
    memory: int
    steps: int | None = None


def load(path: Path | str, *, variant: str | None = None, **overrides: Any) -> DEQTransformer:
    """Loads a trained network in evaluation mode on the CPU.

    Args:
        path: a checkpoint of ours (model.safetensors with config.json beside it, or their folder), a released file
            (.pkl, .pth, .pt; see `models.compat.convert`), or the name of one in `SHIPPED`
        variant: for a released file, the name of its network, such as "wt103-preln-reg", because names and shapes do
            not show the position of layer norm and the solver; "wt103" by default
        overrides: as in `build`: solver, stop, eval_stop, adjoint, memory, steps, norm, dropout, ...

    Raises CheckpointError if the file is missing, damaged or does not fit, listing missing, unexpected and misshapen
    tensors, ConfigError if config.json is missing or invalid, and ValueError for an unknown override.
    """
    path = file_of(path)
    if path.suffix != ".safetensors":
        return load_released(path, **({} if variant is None else {"variant": variant}), **overrides)
    if variant is not None:
        raise ValueError(
            f"variant: only for released files; {path} has its config.json beside it, so leave it out, got {variant!r}"
        )
    of_size, of_equilibrium = split(overrides)
    tensors = checkpoint.load_tensors(path)
    stored = config.load(Stored, path.with_name("config.json"))

    def network() -> DEQTransformer:
        size = replace(stored.architecture, **of_size)
        return DEQTransformer(size, replace(equilibrium_of(stored), **of_equilibrium))

    with checkpoint.naming(path):
        return checkpoint.restored(network, tensors, refusal=f"{path} does not fit DEQTransformer")


def load_for(path: Path | str, vocabulary: Vocabulary, text: str, **overrides: Any) -> DEQTransformer:
    """Loads a trained network, as `load` does, for the text of that name with this vocabulary.

    Raises CorpusError if it was trained with another vocabulary; for a released file only the size is compared.
    """
    model = load(path, **overrides)
    own = file_of(path).with_name(VOCABULARY)
    if model.size.vocabulary != len(vocabulary) or (
        own.exists() and vocabularies.load(own).state() != vocabulary.state()
    ):
        raise CorpusError(
            f"{path}: made for other tokens ({model.size.vocabulary} different ones) than those of the text "
            f"{text} ({len(vocabulary)}); prepare the text that it was trained on"
        )
    return model


def load_vocabulary(path: Path | str, model: DEQTransformer) -> Vocabulary:
    """Loads the vocabulary of the checkpoint `path`, from which `model` was loaded; `path` as in `load`.

    Raises CheckpointError if there is none beside it, or if its size is not the model's, and CorpusError if the file is
    invalid.
    """
    path = file_of(path)
    beside = path.with_name(VOCABULARY)
    if not beside.exists():
        raise CheckpointError(
            f"{beside}: no such file, so the tokens of {path.name} have no meaning. `deq-sequence train` writes it; "
            "for another checkpoint, copy the vocabulary of its training data there"
        )
    vocabulary = vocabularies.load(beside)
    if complaint := _misfit(vocabulary, model):
        raise CheckpointError(f"{beside}: not the vocabulary of {path.name}: {complaint}")
    return vocabulary


def save(path: Path, model: DEQTransformer, vocabulary: Vocabulary | None = None) -> None:
    """Writes the weights of `model` to `path` (.safetensors), and its configuration to config.json beside it.

    Args:
        vocabulary: written to vocabulary.json beside it; without it no text can be read or generated. Raises ValueError
            if its size is not the model's
    """
    if vocabulary is not None and (complaint := _misfit(vocabulary, model)):
        raise ValueError(f"vocabulary must be the model's: {complaint}")
    checkpoint.save(path, model, stored_form(model))
    if vocabulary is not None:
        vocabularies.save(path.with_name(VOCABULARY), vocabulary)


def file_of(path: Path | str) -> Path:
    """As `checkpoint.file_of`, with the names of `SHIPPED`."""
    return checkpoint.file_of(path, SHIPPED)


def stored_form(model: DEQTransformer) -> Stored:
    """The contents of config.json for `model`.

    Raises ValueError for a solver, adjoint or norm that it cannot express.
    """
    choice = model.equilibrium
    return Stored(architecture=model.size, layer=LayerConfig.of(choice), memory=choice.memory, steps=choice.steps)


def equilibrium_of(stored: Stored) -> Equilibrium:
    """The equilibrium of a stored form."""
    return Equilibrium(**stored.layer.choices(), memory=stored.memory, steps=stored.steps)


def _misfit(vocabulary: Vocabulary, model: DEQTransformer) -> str | None:
    if len(vocabulary) == model.size.vocabulary:
        return None
    return f"it has {len(vocabulary)} tokens, the model has {model.size.vocabulary}"
