"""DVC, which writes dvc.lock stage by stage: `python -m workflows.dvc_lock ARGUMENT ...` is `dvc ARGUMENT ...`.

By itself DVC parses all of dvc.lock whenever a stage ends, and writes all of it, in Python: 3 CPU seconds in the
profile mini. Here the text of that stage alone is replaced, and the file is the same to the byte.
"""

import gc
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc import dvcfile
from dvc.cli import main
from dvc.utils.serialize import dumps_yaml, modify_yaml, parse_yaml

HEAD = "schema: '2.0'\nstages:\n"
STAGE = re.compile(r"^  ([\w@-]+):\n(?:    .*\n|\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Stages:
    """The stages of a dvc.lock, as far as DVC asks a mapping of them."""

    texts: dict[str, str]
    """By name."""

    def get(self, name: str, default: Any) -> Any:
        """What the text of a stage says."""
        return parse_yaml(self.texts[name], name)[name] if name in self.texts else default

    def update(self, stages: Mapping[str, Any]) -> None:
        """Replaces the texts of some stages by what DVC writes of them."""
        for name, said in stages.items():
            self.texts[name] = dumps_yaml({"schema": "2.0", "stages": {name: said}}).removeprefix(HEAD)


@contextmanager
def modified(path: str, fs: Any = None) -> Iterator[dict[str, Any]]:
    """What DVC's `modify_yaml` gives, which is left to read and write whatever has more than stages."""
    file = Path(path)
    text = file.read_text(encoding="utf-8") if file.exists() else HEAD
    texts = {found[1]: found[0] for found in STAGE.finditer(text)}
    if text != HEAD + "".join(texts.values()):
        with modify_yaml(path, fs=fs) as data:
            yield data
        return
    yield {"schema": "2.0", "stages": Stages(texts)}
    partial = file.with_name(".dvc") / "tmp" / file.name
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(HEAD + "".join(texts.values()), encoding="utf-8")
    partial.replace(file)


if __name__ == "__main__":
    gc.set_threshold(100_000)  # reading dvc.lock and dvc.yaml makes many objects, and little garbage
    dvcfile.modify_yaml = modified
    sys.exit(main(sys.argv[1:]))
