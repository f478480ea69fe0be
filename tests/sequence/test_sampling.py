"""What is drawn has the probabilities that the options leave."""

import pytest
import torch

from deq_sequence.demo.sampling import Sampling

LOG_PROBS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(temperature=1e-310), [0, 1, 0, 0]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.71), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(top_p=1e-6), [0, 1, 0, 0]),
        (Sampling(never=(1,)), [1 / 6, 0, 2 / 6, 3 / 6]),
        (Sampling(never=(1,), temperature=0), [0, 0, 0, 1]),
        (Sampling(temperature=0.5, top_k=3, top_p=0.6), [0, 16 / 25, 0, 9 / 25]),
    ],
)
def test_probabilities_are_those_that_the_options_leave(sampling: Sampling, expected: list[float]) -> None:
    before = LOG_PROBS.clone()
    found = sampling.probabilities(LOG_PROBS)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)
    assert torch.equal(LOG_PROBS, before)


def test_tokens_come_as_often_as_is_probable() -> None:
    draws = Sampling(top_p=0.71).draw(LOG_PROBS.expand(2, 10_000, 4), torch.Generator().manual_seed(0))
    share = torch.bincount(draws.flatten(), minlength=4) / draws.numel()
    torch.testing.assert_close(share, torch.tensor([0, 4 / 9, 2 / 9, 3 / 9]), rtol=0, atol=0.015)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)  # pyright: ignore[reportArgumentType]  one of its fields
