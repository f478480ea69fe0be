"""What a training step keeps for backward: the same at any number of iterations, where RAFT's grows with each."""

import pytest
import torch
from benchmarks.flow.saved_bytes import saved_bytes
from benchmarks.flow.training_memory import CASES, ONE_STEP, RAFT, RELEASED, Case, Memory, table


def saved(network: str, iterations: int, *, recompute: bool = False) -> int:
    torch.manual_seed(0)
    image1, image2 = 255 * torch.rand(2, 1, 3, 32, 48)
    return saved_bytes(Case(network, iterations, recompute).build("mini"), image1, image2)


@pytest.mark.parametrize("network", [ONE_STEP, RELEASED])
def test_an_equilibrium_keeps_as_much_at_any_number_of_iterations(network: str) -> None:
    assert saved(network, 4) == saved(network, 12)


def test_unrolled_steps_keep_as_much_each() -> None:
    four, eight, twelve = (saved(RAFT, iterations) for iterations in (4, 8, 12))
    assert twelve - eight == eight - four > 0


def test_more_supervised_states_and_phantom_steps_keep_more() -> None:
    assert saved(ONE_STEP, 4) < saved(RELEASED, 4) < saved(RAFT, 12)


def test_an_equilibrium_keeps_a_quarter_of_what_raft_does_once_encoders_are_computed_again() -> None:
    assert 4 * saved(ONE_STEP, 24, recompute=True) < saved(RAFT, 24, recompute=True)


def test_the_table_compares_with_raft_whose_encoders_are_treated_alike() -> None:
    found = {case: Memory(saved=10**6 * (10 + case.recompute), peak=2 * 10**7) for case in CASES}
    found[Case(RAFT, 24)] = Memory(saved=45 * 10**6, peak=10**8)
    rows = [line for line in table(found).splitlines() if line.startswith(f"| {ONE_STEP} | ")]
    assert rows[0] == f"| {ONE_STEP} | kept | 24 | 10 MB | 20 MB | 4.5x | 5.0x |"
    assert rows[2] == f"| {ONE_STEP} | recomputed | 24 | 11 MB | 20 MB | 1.0x | 1.0x |"
