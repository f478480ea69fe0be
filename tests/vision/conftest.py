"""The small sets that tests train on."""

from pathlib import Path

import pytest
from tests.vision.pictures import shorten
from tests.vision.test_training import SETS

from deq_vision.data.mini.write_digits import write_digits
from deq_vision.data.mini.write_street import write_street


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "digits", SETS.digits)
    write_street(root / "street", SETS.street)
    shorten(root / "street")
    return root
