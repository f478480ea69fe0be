"""What a training step keeps for backward: the same at any number of iterations, where RAFT's grows with each."""

import pytest
import torch
from benchmarks.core.pages import read_table
from benchmarks.flow.saved_bytes import saved_bytes
from benchmarks.flow.training_memory import CASES, ONE_STEP, RAFT, RELEASED, Case, Memory, table


def saved(network: str, iterations: int) -> int:
    torch.manual_seed(0)
    image1, image2 = 255 * torch.rand(2, 1, 3, 32, 48)
    return saved_bytes(Case(network, iterations).build("mini"), image1, image2)


@pytest.mark.parametrize("network", [ONE_STEP, RELEASED])
def test_an_equilibrium_keeps_as_much_at_any_number_of_iterations(network: str) -> None:
    assert saved(network, 4) == saved(network, 12)


def test_unrolled_steps_keep_as_much_each() -> None:
    four, eight, twelve = (saved(RAFT, iterations) for iterations in (4, 8, 12))
    assert twelve - eight == eight - four > 0


def test_more_supervised_states_and_phantom_steps_keep_more() -> None:
    assert saved(ONE_STEP, 4) < saved(RELEASED, 4) < saved(RAFT, 12)


def test_the_table_compares_at_equal_iterations() -> None:
    found = {case: Memory(saved=10**6 * case.iterations, peak=2 * 10**6 * case.iterations) for case in CASES}
    found[Case(ONE_STEP, 24)] = Memory(saved=6 * 10**6, peak=8 * 10**6)
    page = f"<!-- table x -->\n{table(found)}\n<!-- end x -->\n"
    rows = [line for line in page.splitlines() if line.startswith("| DEQ-Flow, 1")]
    assert rows[0] == "| DEQ-Flow, 1-step gradient | 24 | 6 MB | 8 MB | 4.0 | 6.0 |"
    assert read_table(page, "x")[RAFT] == ["36", "36 MB", "72 MB", "-", "-"]
