"""dvc.lock is written stage by stage, and is what DVC itself writes."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import modify_yaml

from workflows.dvc_lock import modified

COMMAND = "exec python -m workflows.stage deq-flow train --method {item.method} --seed {item.seed} --data data/flow"
FILE = {"path": "results/a/metrics.json", "hash": "md5", "md5": "0" * 32, "size": 120}
ENTRY: dict[str, Any] = {
    "cmd": COMMAND,
    "deps": [FILE, {**FILE, "path": "a folder: of data"}],
    "params": {
        "params.yaml": {"lr": 1e-5, "stop": None, "on": "yes", "steps": [1, 2], "text": "two\n\nlines\n", "no": {}}
    },
}
OTHER = {"cmd": "exec true", "outs": [FILE]}
BEFORE = {"schema": "2.0", "stages": {"flow_train@deq-0": ENTRY, "check": OTHER, "flow_report": ENTRY}}


def write(path: Path, way: Any, stages: dict[str, Any]) -> None:
    """As DVC writes stages that have run."""
    with way(str(path)) as data:
        if not data:
            data.update({"schema": "2.0"})
        data["stages"] = data.get("stages", {})
        for name, entry in stages.items():
            assert data["stages"].get(name, {}) == BEFORE["stages"].get(name, {}) or not path.exists()
            data["stages"].update({name: deepcopy(entry)})


@pytest.mark.parametrize("stages", [{"check": ENTRY}, {"flow_report": OTHER, "new_one@a-b": ENTRY}])
@pytest.mark.parametrize(
    "more", [None, {}, {"datasets": [{"name": "a", "url": "b"}]}], ids=["no file", "stages", "more than stages"]
)
def test_the_file_is_what_dvc_writes(more: dict[str, Any] | None, stages: dict[str, Any], tmp_path: Path) -> None:
    written = []
    for way in (modify_yaml, modified):
        path = tmp_path / way.__name__
        if more is not None:
            with modify_yaml(str(path)) as data:
                data.update(deepcopy({**BEFORE, **more}))
        write(path, way, stages)
        written.append(path.read_text())
    assert written[0] == written[1]
    assert all(f"  {name}:\n" in written[0] for name in stages)


def test_nothing_is_written_where_dvc_fails(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    write(path, modify_yaml, {"check": OTHER})
    before = path.read_text()
    with pytest.raises(AttributeError), modified(str(path)) as data:
        data["stages"].update(None)
    assert path.read_text() == before
