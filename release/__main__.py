"""Builds and checks a release: `make release-check`, or `python -m release`.

build/release then has dist, with wheels, source distributions and a bill of materials for each wheel, and the
environments in which the wheels were tested.
"""

import shutil
import sys
from pathlib import Path

from release import bill, environments, licences, version
from release.dependencies import ROOT, closure
from release.distributions import PACKAGES, ReleaseError, build_twice
from release.environments import Environment

CORE, *DOMAINS = PACKAGES
EXPERIMENT = f"{CORE}[experiment]"


def main(folder: Path) -> None:
    """Builds and checks a release in a folder, which is recreated."""
    shutil.rmtree(folder, ignore_errors=True)
    dist = folder / "dist"
    dist.mkdir(parents=True)
    released = version.current()
    if licences.made(licences.PAGE.read_text()) != licences.PAGE.read_text():
        raise ValueError(f"{licences.PAGE} is out of date: run `python -m release.licences`")
    wheels: dict[str, Path] = {}
    for name in PACKAGES:
        for path in build_twice(name, folder / "builds" / name):
            shutil.copy(path, dist)
            print(f"{path.name}: two builds are equal to the byte", flush=True)
        (wheels[name],) = dist.glob(f"{name.replace('-', '_')}-*.whl")
        bill.write(dist / f"{wheels[name].stem}.cdx.json", wheels[name], name, released, closure([name]))
    try_all(folder, wheels)
    print(f"{released} is ready in {dist}")


def try_all(folder: Path, wheels: dict[str, Path]) -> None:
    """Tests each installation in its own environment; those of domains include that of deq-core[experiment]."""
    core = closure([CORE])
    shared = closure([EXPERIMENT])
    plain = environment(folder, CORE, [wheels[CORE]], set(core))
    common = environment(folder, EXPERIMENT, [], set(shared) - set(core), plain)
    for name in DOMAINS:
        environment(folder, name, [wheels[name]], set(closure([name])) - set(shared), plain, common)


def environment(
    folder: Path, installation: str, wheels: list[Path], needed: set[str], *below: Environment
) -> Environment:
    """Makes an environment and runs the smoke test of its installation in it."""
    made = environments.make(
        folder / "environments" / installation, wheels, sorted(needed - set(PACKAGES)), below=below
    )
    made.smoke(installation, folder / "smoke" / installation)
    print(f"{installation}: works with what it declares alone", flush=True)
    return made


if __name__ == "__main__":
    try:
        main(ROOT / "build" / "release")
    except (ValueError, ReleaseError) as error:
        sys.exit(f"release: {error}")
