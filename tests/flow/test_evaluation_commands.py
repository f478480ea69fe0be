"""The commands that measure a checkpoint, from the command line to the files."""

import json
from pathlib import Path

import pytest
from tests.flow.small import equilibrium_model, store, write_kitti_set, write_sintel

from deq_core.experiment.tables import read_rows
from deq_flow.cli import main

DATA = ("--data", "data")
VIDEOS = "the sets of videos are sintel_clean, sintel_final, hd1k, spring"

PARAMS = """
test:
  measure:
    inference: {stop: {max_steps: 3}}
    sweeps:
      plain: {iterations: [1, 2], tolerances: [0.5]}
      anderson: {solver: {kind: anderson, window: 3}, iterations: [2]}
  starts:
    starts: [cold, reuse]
    budgets:
      three: {stop: {max_steps: 3}, steps: 3}
      wrong: {stop: {max_steps: 3, tolerance: 0.1}}
  run: {stop: {max_steps: 2}, precision: bfloat16}
"""


@pytest.fixture
def folder(tracking_database: Path) -> Path:
    """A working directory with data, a checkpoint and parameters."""
    root = tracking_database.parent
    for split in ("training", "test"):
        write_sintel(root / "data", split)
    for split in ("training", "testing"):
        write_kitti_set(root / "data", split)
    store(root / "net", equilibrium_model())
    (root / "params.yaml").write_text(PARAMS)
    return root


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_checkpoint_is_measured_on_all_parts_of_a_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "net", *DATA, "--set", "sintel", "--out", "own"])
    own = printed(capsys)
    assert own["sintel_final.pairs"] == 5
    assert own["sintel_clean.steps"] <= 2
    assert not Path("own/sweeps.csv").exists()
    main(["evaluate", "net", *DATA, "--set", "sintel_clean", "--out", "swept", "--section", "test.measure"])
    swept = printed(capsys)
    assert swept["sintel_clean.epe"] != own["sintel_clean.epe"]
    rows = read_rows(Path("swept/sweeps.csv"))
    assert {(row["sweep"], row["axis"], row["at"]) for row in rows} == {
        ("plain", "iterations", 1),
        ("plain", "iterations", 2),
        ("plain", "tolerance", 0.5),
        ("anderson", "iterations", 2),
    }


def test_starts_are_compared_on_a_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sequences", "net", "--out", "out"])
    assert set(printed(capsys)) == {
        f"own.{start}.{key}" for start in ("cold", "warm", "reuse") for key in ("epe", "iterations")
    }
    assert len(read_rows(Path("out/frames.csv"))) == 3 * 5


def test_submissions_are_written_where_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["submit", "sintel", "net", "--out", "sintel", "--start", "warm"])
    assert printed(capsys) == {"files": 10, "iterations": 2}
    assert len(list(Path("sintel").rglob("*.flo"))) == 10
    main(["submit", "kitti", "net", "--out", "kitti", "--section", "test.run"])
    assert printed(capsys)["files"] == 2
    assert len(list(Path("kitti/flow").glob("*_10.png"))) == 2


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("evaluate", "net", *DATA, "--set", "sintle", "--out", "out"), ("sintle", "sintel")),
        (("evaluate", "nets", *DATA, "--set", "sintel", "--out", "out"), ("nets", "no such checkpoint")),
        (("evaluate", "net", *DATA, "--set", "spring", "--out", "out"), ("spring", "unpack")),
        (("sequences", "net", "--set", "kitti", "--out", "out"), ("kitti", "not consecutive", VIDEOS)),
        (("sequences", "net", "--set", "sintel", "--out", "out"), ("sintel", "no set", VIDEOS)),
        (("sequences", "net", "--set", "chairs", "--out", "out"), ("chairs", "not consecutive", VIDEOS)),
        (("sequences", "net", "--out", "out", "--section", "test.starts"), ("tolerance", "params.yaml")),
        (("submit", "sintel", "net", "--out", "out", "--data", "elsewhere"), ("elsewhere", "unpack")),
        (("submit", "kitti", "net", "--out", "out", "--start", "warm"), ("--start", "cold", "warm")),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(
    folder: Path, arguments: tuple[str, ...], names: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert isinstance(stopped.value.code, str), "a message, and no traceback"
    assert [name for name in names if name not in stopped.value.code] == []
    assert not Path("out").exists()
