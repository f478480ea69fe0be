"""Initial states of solves: those that earlier positions with the same token came to."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

Initialisation = Literal["cold", "previous", "token"]
"""Where the solve of a position begins: at zeros; at the state of the position before; at the state of the last
position that was read with the same token, wherever in the text (at zeros where there was none)."""


class InitialStates:
    """The states that solves of further positions of some texts may begin at.

    A token's equilibrium depends on what stands before it, but more on the token: its last state is nearer than zeros.
    There is one state for each different token that was read, however long the text.
    """

    def __init__(self, kind: Initialisation) -> None:
        self.kind: Initialisation = kind
        self._last: Tensor | None = None
        self._of_token: dict[int, Tensor] = {}

    def begin(self, tokens: Tensor) -> Tensor | None:
        """Where the solve of the next positions, with these tokens (B, T), begins, (B, T, width); None for zeros."""
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
        """Takes the equilibria (B, T, width) of positions with these tokens (B, T)."""
        self._last = states[:, -1:]
        if self.kind == "token":
            # By columns, so that of a token's positions the last ones count; copies, not views of whole segments.
            by_column = rearrange(tokens, "b t -> (t b)").tolist()
            flat = zip(by_column, rearrange(states, "b t width -> (t b) width").clone(), strict=True)
            self._of_token |= dict(flat)
