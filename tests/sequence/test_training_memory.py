"""What a training step keeps for backward: the same at any number of evaluations, where unrolling keeps each."""

import pytest
import torch
from benchmarks.sequence.training_memory import CASES, IMPLICIT, PHANTOM, UNROLLED, Case, Memory, saved_bytes, table


def saved(network: str, evaluations: int) -> int:
    torch.manual_seed(0)
    text = torch.randint(128, (2, 13))
    return saved_bytes(Case(network, evaluations).build("mini", 6), text)


@pytest.mark.parametrize("network", [IMPLICIT, PHANTOM])
def test_an_equilibrium_keeps_as_much_at_any_number_of_evaluations(network: str) -> None:
    assert saved(network, 4) == saved(network, 24)


def test_unrolled_evaluations_keep_as_much_each() -> None:
    four, eight, twelve = (saved(UNROLLED, evaluations) for evaluations in (4, 8, 12))
    assert twelve - eight == eight - four > 0
    assert saved(IMPLICIT, 12) < four


def test_the_table_has_a_column_an_evaluation() -> None:
    lines = table({case: Memory(saved=case.evaluations * 10**6, peak=5 * 10**7) for case in CASES}).splitlines()
    assert lines[0] == "| evaluations | 4 | 8 | 12 | 24 | 48 |"
    assert lines[2] == f"| {IMPLICIT}: saved | 4 MB | 8 MB | 12 MB | 24 MB | 48 MB |"
    assert len(lines) == 2 + 6
