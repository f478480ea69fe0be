"""A text read in windows with a memory is the text read at once, however it is cut."""

import pytest
import torch
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_sequence.data.batches import windows


@pytest.mark.parametrize(("length", "stride"), [(5, 5), (5, 2), (20, 20), (1, 1)])
def test_losses_do_not_depend_on_the_windows(length: int, stride: int) -> None:
    model = small(memory=30, solver=deq.Anderson(), stop=deq.Stop(300, tol=1e-12))
    text = some_tokens(batch=1, length=18)
    scored, memory = [], None
    with torch.no_grad():
        whole = model(text[:, :-1], targets=text[:, 1:]).losses[0]
        for window in windows(text[0], length=length, stride=stride):
            output = model(window.tokens, memory, targets=window.targets, again=window.again)
            scored.append(output.losses[0, -window.scored :])
            memory = output.memory
    torch.testing.assert_close(torch.cat(scored), whole, rtol=0, atol=1e-9)
