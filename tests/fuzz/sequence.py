"""Readers of `deq_sequence`."""

from pathlib import Path

import torch
from tests.fuzz.reader import Reader, digested, like, same
from tests.sequence.small import SMALL

import deq_sequence
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_sequence import networks
from deq_sequence.data import corpora, tokens, vocabulary
from deq_sequence.data.corpora import Corpus, CorpusError
from deq_sequence.data.vocabulary import Kind

TEXT = "it was a dark night ;\nthe rain fell in torrents\n" * 3


def write_vocabulary(folder: Path, kind: Kind) -> Path:
    vocabulary.save(folder / "vocabulary.json", vocabulary.learn(kind, TEXT.splitlines(True), 280))
    return folder / "vocabulary.json"


def read_vocabulary(path: Path) -> str:
    """What a text becomes and comes back as: a vocabulary that cannot number or spell is none."""
    found = vocabulary.load(path)
    match found:
        case vocabulary.Words():
            text = f"{found.words[-1]}\n"
        case vocabulary.Characters():
            text = found.characters[:3]
        case _:
            text = "a b\n"
    numbers = found.encode([text])
    assert len(numbers) == 0 or 0 <= numbers.min() <= numbers.max() < len(found)
    return found.decode(numbers.tolist())


def write_tokens(folder: Path) -> Path:
    corpus = Corpus(dict.fromkeys(corpora.SPLITS, TEXT))
    tokens.write(folder / "data", tokens.number(corpus, "characters"))
    return folder / "data" / "train.npy"


def write_text(folder: Path) -> Path:
    for split in corpora.SPLITS:
        (folder / f"wiki.{split}.tokens").write_text(TEXT)
    return folder / "wiki.train.tokens"


def read_text(path: Path) -> list[str]:
    others = (path.with_name(f"wiki.{split}.tokens") for split in ("valid", "test"))
    return list(corpora.read_files(path, *others).lines("train"))


def write_ours(folder: Path) -> Path:
    known = vocabulary.learn("characters", TEXT.splitlines(True))
    torch.manual_seed(0)
    model = deq_sequence.build("mini", **{**SMALL, "vocabulary": len(known)})
    networks.save(folder / "model.safetensors", model, known)
    return folder / "model.safetensors"


def write_released(folder: Path) -> Path:
    torch.manual_seed(0)
    model = deq_sequence.build("mini", **SMALL)
    tied = {"softmax.tables.0": model.state_dict()["embedding.tables.0.weight"]}  # which a release has twice
    torch.save(model.state_dict() | tied, folder / "model_state_dict.pth")
    return folder / "model_state_dict.pth"


def read_with_vocabulary(path: Path) -> object:
    model = networks.load(path.parent)
    return networks.load_vocabulary(path.parent, model).state()


CORPUS = (CorpusError,)
LOADING = (CheckpointError, ConfigError)
READERS = (
    Reader("sequence/words.json", lambda folder: write_vocabulary(folder, "words"), read_vocabulary, CORPUS),
    Reader("sequence/characters.json", lambda folder: write_vocabulary(folder, "characters"), read_vocabulary, CORPUS),
    Reader("sequence/byte_pairs.json", lambda folder: write_vocabulary(folder, "byte_pairs"), read_vocabulary, CORPUS),
    Reader("sequence/tokens.npy", write_tokens, lambda path: tokens.read(path.parent).texts["train"], CORPUS, like),
    Reader("sequence/text.tokens", write_text, read_text, CORPUS, like),
    Reader("sequence/released.pth", write_released, lambda path: networks.load(path, variant="mini"), LOADING, like),
    Reader("sequence/model.safetensors", write_ours, digested(networks.load), LOADING, same),
    Reader(
        "sequence/config.json",
        lambda folder: write_ours(folder).with_name("config.json"),
        lambda path: networks.load(path.parent),
        LOADING,
        same,
    ),
    Reader(
        "sequence/vocabulary.json",
        lambda folder: write_ours(folder).with_name("vocabulary.json"),
        read_with_vocabulary,
        (*LOADING, *CORPUS),
    ),
)
