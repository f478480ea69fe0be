"""Networks in files: ours, released ones, and those that come with the package."""

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
"""Checkpoints that come with the package: name to folder."""
VOCABULARY = "vocabulary.json"
"""The file beside a checkpoint that says which text its tokens stand for; see `data.vocabulary`."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What config.json beside a checkpoint holds: all that the network is but its weights."""

    architecture: Architecture
    layer: LayerConfig
    memory: int
    steps: int | None = None


def load(path: Path | str, *, variant: str | None = None, **overrides: Any) -> DEQTransformer:
    """The trained network in a file, in evaluation mode on the CPU.

    Args:
        path: a checkpoint of ours (model.safetensors with config.json beside it, or their folder), a released file
            (.pkl, .pth, .pt; see `models.compat.convert`), or the name of one in `SHIPPED`
        variant: for a released file, the name of the network that it is of, such as "wt103-preln-reg": names and shapes
            do not tell where layer norm stands, nor how it was solved; "wt103" by default
        overrides: as in `build`: solver, stop, eval_stop, adjoint, memory, steps, norm, dropout, ...

    Raises CheckpointError for a file that is missing, damaged or of something else, listing what is missing,
    unexpected and misshapen, and ValueError for an unknown override.
    """
    path = located(path)
    if path.suffix != ".safetensors":
        return load_released(path, **({} if variant is None else {"variant": variant}), **overrides)
    if variant is not None:
        raise ValueError(f"variant is for released files; {path} says itself what it is of, got {variant!r}")
    of_size, of_equilibrium = split(overrides)
    tensors = checkpoint.load_tensors(path)
    stored = config.load(Stored, path.with_name("config.json"))

    def network() -> DEQTransformer:
        size = replace(stored.architecture, **of_size)
        return DEQTransformer(size, replace(equilibrium_of(stored), **of_equilibrium))

    with checkpoint.naming(path):
        return checkpoint.restored(network, tensors, refusal=f"{path} does not fit DEQTransformer")


def load_for(path: Path | str, vocabulary: Vocabulary, text: str, **overrides: Any) -> DEQTransformer:
    """The trained network in a file, as `load` has it, to read the text of that name with this vocabulary.

    Raises CorpusError where it was trained with another one; a released file says its size alone.
    """
    model = load(path, **overrides)
    own = located(path).with_name(VOCABULARY)
    if model.size.vocabulary != len(vocabulary) or (
        own.exists() and vocabularies.load(own).state() != vocabulary.state()
    ):
        raise CorpusError(
            f"{path}: made for other tokens ({model.size.vocabulary} different ones) than those of the text "
            f"{text} ({len(vocabulary)}); prepare the text that it was trained on"
        )
    return model


def load_vocabulary(path: Path | str, model: DEQTransformer) -> Vocabulary:
    """The vocabulary that the checkpoint `path`, from which `model` was loaded, was trained with; `path` as in `load`.

    Raises CheckpointError where there is none beside it, or one of another size than the model's, and CorpusError for
    a file that is no vocabulary.
    """
    path = located(path)
    beside = path.with_name(VOCABULARY)
    if not beside.exists():
        raise CheckpointError(
            f"{beside}: no such file, so the tokens of {path.name} stand for no text; `deq-sequence train` writes it. "
            "For a checkpoint without one, put it there: that of the data the model was trained on"
        )
    vocabulary = vocabularies.load(beside)
    if complaint := _misfit(vocabulary, model):
        raise CheckpointError(f"{beside}: not the vocabulary of {path.name}: {complaint}")
    return vocabulary


def save(path: Path, model: DEQTransformer, vocabulary: Vocabulary | None = None) -> None:
    """Writes the weights of `model` to `path` (.safetensors), and what it is to config.json beside it.

    Args:
        vocabulary: which text its tokens stand for, to vocabulary.json beside it: without it no text can be read or
            generated. ValueError where it has another size than the model's
    """
    if vocabulary is not None and (complaint := _misfit(vocabulary, model)):
        raise ValueError(f"vocabulary must be the model's: {complaint}")
    checkpoint.save(path, model, stored_form(model))
    if vocabulary is not None:
        vocabularies.save(path.with_name(VOCABULARY), vocabulary)


def located(path: Path | str) -> Path:
    """The file that `path` names: itself, that in a folder of ours, or a shipped checkpoint's. It exists.

    Raises CheckpointError where it does not.
    """
    path = SHIPPED.get(str(path)) or Path(path)
    if not path.exists():
        known = ", ".join(SHIPPED)
        raise CheckpointError(f"{path}: no such checkpoint, and none of that name is shipped ({known})")
    return path / "model.safetensors" if path.is_dir() else path


def stored_form(model: DEQTransformer) -> Stored:
    """What config.json holds of `model`.

    Raises ValueError for a solver, adjoint or norm that has no word there.
    """
    choice = model.equilibrium
    return Stored(architecture=model.size, layer=LayerConfig.of(choice), memory=choice.memory, steps=choice.steps)


def equilibrium_of(stored: Stored) -> Equilibrium:
    """The inverse of `stored_form`, less the architecture."""
    return Equilibrium(**stored.layer.choices(), memory=stored.memory, steps=stored.steps)


def _misfit(vocabulary: Vocabulary, model: DEQTransformer) -> str | None:
    if len(vocabulary) == model.size.vocabulary:
        return None
    return f"it has {len(vocabulary)} tokens, the model has {model.size.vocabulary}"
