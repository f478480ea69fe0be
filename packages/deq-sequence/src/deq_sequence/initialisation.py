"""Initial states of solves from the states of earlier positions."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

Initialisation = Literal["cold", "previous", "token"]
"""Initial state of a position's solve: zeros; the state of the position before; the state of the last position with the
same token, anywhere in the text (zeros if there was none)."""


class InitialStates:
    """Keeps the states from which solves of further positions may start.

    The equilibrium of a position depends on its context, but more on its token, so the token's last state is nearer
    than zeros. One state is kept per distinct token, however long the text.
    """

    def __init__(self, kind: Initialisation) -> None:
        self.kind: Initialisation = kind
        self._last: Tensor | None = None
        self._of_token: dict[int, Tensor] = {}

    def begin(self, tokens: Tensor) -> Tensor | None:
        """Initial states (B, T, width) for the next positions, with these tokens (B, T); None for zeros."""
        match self.kind:
            case "cold":
                return None
            case "previous":
                return None if self._last is None else self._last.expand(-1, tokens.shape[1], -1)
            case "token":
                if self._last is None:
                    return None
                zeros = torch.zeros_like(self._last[0, 0])
                found = [self._of_token.get(token, zeros) for token in tokens.flatten().tolist()]
                return rearrange(torch.stack(found), "(b t) width -> b t width", b=len(tokens))

    def see(self, tokens: Tensor, states: Tensor) -> None:
        """Stores the equilibria (B, T, width) of positions with these tokens (B, T)."""
        self._last = states[:, -1:]
        if self.kind == "token":
            # In order of position, so that the last state of a token is kept. The clone frees the segment's tensor.
            by_column = rearrange(tokens, "b t -> (t b)").tolist()
            flat = zip(by_column, rearrange(states, "b t width -> (t b) width").clone(), strict=True)
            self._of_token |= dict(flat)
