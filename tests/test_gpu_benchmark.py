"""One run of all that needs a GPU: parts end in time, and each leaves what it has said."""

import json
from pathlib import Path

import pytest
from benchmarks import gpu
from benchmarks.gpu import PARTS, Part, pairs, run_all


def test_a_part_that_takes_too_long_is_stopped_and_the_others_and_all_they_said_are_kept(tmp_path: Path) -> None:
    parts = {
        "slow": Part(("timeit", "-n", "1", "-r", "1", "print('begun', flush=True); import time; time.sleep(60)"), 3.0),
        "good": Part(("json.tool", "--help"), 30.0),
        "late": Part(("json.tool", "--help"), 30.0),
    }
    found = run_all(dict(list(parts.items())[:2]), 60, tmp_path / "gpu.json")
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    assert (found["parts"]["slow"]["status"], found["parts"]["good"]["status"]) == ("out of time", 0)
    assert "begun" in found["parts"]["slow"]["printed"]
    assert found["machine"]["commit"]
    assert run_all({"late": parts["late"]}, 1, tmp_path / "none.json")["parts"]["late"] == {"status": "no time left"}


def test_its_parts_fit_eight_minutes_and_name_modules_that_are_there() -> None:
    assert sum(part.seconds for part in PARTS.values()) <= 480
    for part in PARTS.values():
        module = gpu.ROOT / f"{part.arguments[0].replace('.', '/')}.py"
        assert part.arguments[0] == "pytest" or module.exists()


def test_a_pair_is_timed_at_every_number_of_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    pairs("cpu", height=32, width=32, repeats=1)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["network"], row["iterations"]) for row in rows[:4]] == [
        *(("raft", steps) for steps in (12, 24, 36)),
        ("deq-flow-base", 12),
    ]
    assert all(row["ms"] > 0 for row in rows)
