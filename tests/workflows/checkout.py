"""Throw-away copies of this checkout, and the commands that run in them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

from ruamel.yaml import YAML
from tests.profiles import written

from workflows.profile import profile

ROOT = Path(__file__).parents[2]
OWN = ("DEQ_", "DVC_", "MLFLOW_", "SNAKEMAKE_")
"""What variables begin with that a person's own settings and runs have."""


def copy(folder: Path, root: Path = ROOT) -> Path:
    """A repository in `folder` with the code of the checkout `root` as it is, and with none of anybody's results.

    Code is what git knows, with its edits, and new files beside it in the same top folders; git's ignored files are
    none of it, nor is dvc.lock, which records results. The parameters are the profile mini.
    """
    known = set(listed(root, "--cached"))
    folders = {name.partition("/")[0] for name in known if "/" in name}
    for name in sorted(known.union(listed(root, "--others", "--exclude-standard", "--", *sorted(folders)))):
        if (root / name).is_file() and name != "dvc.lock":  # a deleted file is still listed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    (folder / "params.yaml").write_text(written("mini"))
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Copy"]):
        run(folder, "git", *command)
    return folder


def listed(root: Path, *options: str) -> list[str]:
    """Files of a checkout that git lists, by their paths in it."""
    command = ["git", "ls-files", "-z", *options]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in names.split("\0") if name]


def environment(folder: Path) -> dict[str, str]:
    """Variables for a command in `folder`: this interpreter's commands come first, no state is shared with others.

    Nor are settings of a person's own, of git, DVC or Snakemake.
    """
    author = {f"GIT_{role}_{what}": "tests" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    return {
        **inherited,
        **author,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "tmp" / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / ".dvc" / "tmp" / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / ".dvc" / "tmp" / "system"),
        "DVC_NO_ANALYTICS": "1",  # each command would start a process more, which reports it over the network
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder`; its output, both streams as one, is part of the failure where `check` is set."""
    process = subprocess.run(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if check:
        assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}:\n{process.stdout}"
    return process


def edit(path: Path, old: str, new: str) -> None:
    """Replaces the one occurrence of `old` in a file."""
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name}: expected {old!r} once, found it {text.count(old)} times"
    path.write_text(text.replace(old, new))


def set_parameters(folder: Path, values: Mapping[str, object], *, name: str = "") -> None:
    """Gives params.yaml other values at dotted keys; with `name`, of that profile."""
    path = folder / "params.yaml"
    document = profile(name) if name else YAML(typ="safe", pure=True).load(path)
    for key, value in values.items():
        *parents, last = key.split(".")
        reduce(lambda mapping, parent: mapping[parent], parents, document)[last] = value
    path.write_text(json.dumps(document, indent=1))  # JSON is YAML
