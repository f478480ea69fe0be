"""The study of the delta rule on language models, as params.yaml has it."""

from dataclasses import dataclass
from typing import Literal

from deq_core.experiment.config import Name
from deq_core.experiment.study.delta import Variant

Start = Literal["cold", "token", "previous", "stream"]
"""Where the solve of a segment begins: at zeros; each position at the state that the last position with its token came
to; at the states of the segment before; there, and with the delta rule's memories of that segment."""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """Perplexity of a language model against the work that the delta rule leaves (DeltaDEQ, NeurIPS 2024)."""

    text: Name
    """Key of `texts`; the training's own."""
    length: int
    """Tokens of a segment."""
    memory: int
    """Positions remembered from segment to segment."""
    batch_size: int
    """Rows that the text is read in, side by side."""
    tokens: int | None = None
    """Of the text, from its beginning; None is all."""
    variants: dict[str, Variant]
    """Solvers, and the delta rule within their evaluations. A stop with a tolerance goes on until all rows are done."""
    dense_steps: tuple[int, ...]
    """Evaluations of the dense solves that the delta rule is compared with."""
    starts: tuple[Start, ...] = ("cold",)
    skip: tuple[str, ...] = ()
    """Layers of the cell that stay dense, such as attention.qkv, attention.output, expand or contract."""
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.length, self.batch_size, self.threads) < 1 or self.memory < 0:
            raise ValueError(
                "delta: length, batch_size and threads must be at least 1 and memory at least 0, got "
                f"{self.length}, {self.batch_size}, {self.threads} and {self.memory}"
            )
        if not self.variants or not self.starts:
            raise ValueError("delta: expected at least one variant and one start")
        if any(steps < 1 for steps in self.dense_steps):
            raise ValueError(f"delta: dense_steps must be at least 1 evaluation each, got {list(self.dense_steps)}")
