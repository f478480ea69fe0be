"""The small text that tests train on."""

from pathlib import Path

import pytest
from tests.sequence.recipes import TEXT

from deq_sequence.data.texts import prepare


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile's texts as numbers."""
    root = tmp_path_factory.mktemp("data")
    prepare(root / "characters", TEXT)
    return root
