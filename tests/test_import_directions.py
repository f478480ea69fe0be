"""The import contracts of pyproject.toml hold, and break on a planted violation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"deq_core": "deq-core", "deq_flow": "deq-flow", "deq_vision": "deq-vision", "deq_sequence": "deq-sequence"}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the packages below `root`."""
    paths = os.pathsep.join(str(root / "packages" / folder / "src") for folder in PACKAGES.values())
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, folder in PACKAGES.items():
        source = Path("packages") / folder / "src" / name
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("deq-core/src/deq_core/_solve/stop.py", "import numpy", "the solvers need torch alone"),
        ("deq-core/src/deq_core/_solve/stop.py", "import deq_core.experiment", "the solvers do not know experiments"),
        ("deq-core/src/deq_core/experiment/tables.py", "import mlflow", "each of these libraries is imported"),
        ("deq-vision/src/deq_vision/__init__.py", "import deq_flow", "domains do not know each other"),
        ("deq-flow/src/deq_flow/data/io.py", "import deq_flow.models", "data and models do not know each other"),
        ("deq-flow/src/deq_flow/evaluation/evaluate.py", "import deq_flow.cli", "commands on top"),
    ],
)
def test_a_planted_import_breaks_its_contract(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "packages" / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = lint(copy)
    assert done.returncode != 0
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN") or " BROKEN" in text]
    assert any(contract in text for text in broken), done.stdout


def test_the_contracts_hold_in_the_packages_as_they_are(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
