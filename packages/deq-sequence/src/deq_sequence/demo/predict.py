"""A network as an MLflow model, from the beginning of a text to the text."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import deq_core as deq
from deq_core.experiment.tracking.models import Interface
from deq_sequence.data.vocabulary import Vocabulary
from deq_sequence.demo.generate import generate
from deq_sequence.demo.prompt import PromptError, encode_prompt, unknown_tokens
from deq_sequence.demo.sampling import Sampling
from deq_sequence.models.reader import Reader
from deq_sequence.networks import load, load_vocabulary

if TYPE_CHECKING:
    import pandas as pd


def interface_of(vocabulary: Vocabulary) -> Interface:
    """The signature: beginnings of texts to texts, with options of `deq-sequence generate`. The example is a token."""
    return Interface(
        inputs=None,
        outputs=None,
        example=[vocabulary.decode([1])],
        params={"length": 100, "temperature": 0.8, "top_p": 0.95, "seed": 0},
    )


class Predictor:
    """Runs the network in a folder with model.safetensors, config.json and vocabulary.json."""

    def __init__(self, folder: Path):
        self.model = load(folder)
        self.vocabulary = load_vocabulary(folder, self.model)

    def __call__(
        self, prompts: "pd.DataFrame", length: int = 100, temperature: float = 0.8, top_p: float = 0.95, seed: int = 0
    ) -> list[str]:
        """Texts as in `interface_of`; MLflow passes a list of prompts as a table of one column.

        Raises:
            PromptError: a prompt is not text; MLflow accepts missing values in a table.
        """
        sampling = Sampling(temperature=temperature, top_p=top_p, never=unknown_tokens(self.vocabulary))
        texts = list(prompts.iloc[:, 0])
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise PromptError(f"prompt {number}: expected a text, got {text!r}; leave it out")
        return [self._text(text, length, sampling, seed) for text in texts]

    def _text(self, prompt: str, length: int, sampling: Sampling, seed: int) -> str:
        tokens = torch.from_numpy(encode_prompt(self.vocabulary, prompt)).long()
        with torch.no_grad(), deq.cached_weights():
            drawn = [one.token for one in islice(generate(Reader(self.model), tokens, sampling, seed=seed), length)]
        return self.vocabulary.decode([*tokens.tolist(), *drawn])
