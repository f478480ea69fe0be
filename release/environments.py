"""Clean environments with some wheels, their declared dependencies, and nothing else.

Dependencies are linked, file by file, from the environment that runs this, which saves downloads. An import that a
wheel does not declare fails in them.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from release.distributions import ReleaseError

SMOKE = Path(__file__).with_name("smoke.py")


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def smoke(self, case: str, scratch: Path) -> None:
        """Runs one case of smoke.py in an empty folder, with the programs of this environment alone.

        Raises:
            ReleaseError: the case failed; its output is on stderr.
        """
        scratch.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        variables = {**kept, "PATH": f"{self.python.parent}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(scratch)}
        command = [self.python.absolute(), "-I", SMOKE.absolute(), case]
        if subprocess.run(command, cwd=scratch, env=variables).returncode != 0:
            raise ReleaseError(f"{case} does not work with what it declares alone, see above; try {self.python}")


def make(
    folder: Path, wheels: Sequence[Path], needed: Iterable[str], *, below: Sequence[Environment] = ()
) -> Environment:
    """Makes an environment with some wheels, the installed distributions `needed`, and the contents of those `below`.

    Raises:
        ReleaseError: a requirement of the wheels is missing or has the wrong version.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder)
    for name in needed:
        link(name, made.packages)
    paths = [str(one.packages.absolute()) for one in below]
    (made.packages / "below.pth").write_text("".join(f"{path}\n" for path in paths))
    if wheels:
        pip(made, "install", "--no-index", "--no-deps", "--quiet", *map(str, wheels))
    pip(made, "check")
    return made


def link(name: str, packages: Path) -> None:
    """Links the files of an installed distribution, except programs, into another environment's `packages`."""
    installed = distribution(name)
    for file in installed.files or ():
        place = packages / file
        if file.parts[0] != ".." and not place.is_symlink():  # mlflow's distributions share files
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(Path(str(installed.locate_file(file))).absolute())


def pip(environment: Environment, *words: str) -> None:
    """Runs this interpreter's pip on an environment without pip."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "pip", "--python", str(environment.python), *words]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise ReleaseError(f"{environment.folder}: pip {words[0]} says\n{done.stdout}")
