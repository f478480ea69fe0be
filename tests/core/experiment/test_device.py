"""A device is found by its name, or its name is in the error."""

import pytest
import torch

from deq_core.experiment.config import ConfigError
from deq_core.experiment.device import chosen_device


def test_a_device_is_found_by_its_name() -> None:
    assert chosen_device("cpu") == torch.device("cpu")


def test_auto_is_cuda_where_there_is_one() -> None:
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["abacus", f"cuda:{torch.cuda.device_count()}"])
def test_a_missing_device_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"got '{name}'"):
        chosen_device(name)


def test_the_error_of_a_device_without_a_backend_is_short() -> None:
    with pytest.raises(ConfigError, match="got 'fpga'") as error:
        chosen_device("fpga")
    assert len(str(error.value)) < 300
