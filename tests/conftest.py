"""Every test starts from the same seeds, on one thread, outside any pipeline, with no window system."""

import gc
import os

# before torch and matplotlib are imported, which read them once
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"  # the few tests with more threads would burn what the other worker needs
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import random
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

SEED = 20201

gc.disable()  # until all is imported, which stays

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, be it by torch

# A machine may have other work: no test fails because it is slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the tests marked `gpu` where there is no CUDA device; pytest counts them as deselected.

    Those marked `slow` go first, of them the whole pipelines, so that with several workers none is left running alone
    at the end.
    """
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, "workflows" not in item.path.parts))
    if torch.cuda.is_available():
        return
    unfit = [item for item in items if item.get_closest_marker("gpu") is not None]
    if unfit:
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item.get_closest_marker("gpu") is None]


def pytest_collection_finish() -> None:
    """What was imported stays for good: the garbage collector need not walk over it, again and again, in the tests."""
    gc.freeze()
    gc.enable()


def seed() -> None:
    """Torch alone begins a process from a seed of chance, and goes on from where the last test left it."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - libraries draw from the global generator
    torch.manual_seed(SEED)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Weights that a test module makes as it is imported are the same in every process."""
    if isinstance(collector, pytest.Module):
        seed()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """A fixture that several tests share does not depend on which tests ran before it."""
    if fixturedef.scope != "function":
        seed()


@pytest.fixture(autouse=True)
def same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed seeds and one thread; no variable of a pipeline or tracking server around the tests reaches them."""
    seed()
    torch.set_num_threads(1)
    for name in ("DVC_STAGE", "DEQ_ENGINE", "MLFLOW_TRACKING_URI", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def few_batches(monkeypatch: pytest.MonkeyPatch) -> int:
    """As many batches give averaged weights their statistics, and not 50, which take longer than a short training."""
    monkeypatch.setattr("deq_core.experiment.training.averaging.BATCHES", 2)
    return 2


@pytest.fixture(scope="session")
def empty_tracking_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite tracking store with its tables and no run: two seconds of work, done once."""
    from mlflow.store.db import utils

    from deq_core.experiment.tracking.store.connection import connect

    # by itself MLflow reads the scripts of all its migrations whenever a store is opened
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)
    path = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def tracking_database(empty_tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tracking store of the test's own, which MLFLOW_TRACKING_URI points to; the working directory is beside it."""
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_tracking_database, path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return path
