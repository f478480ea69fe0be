"""The version of the four packages, which are released together: `python -m release.version` prints it, and
`python -m release.version 0.2.0` sets it in all files."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from release.dependencies import ROOT

PLACES: Mapping[str, str] = {
    "packages/*/pyproject.toml": r'^(?:version = "|    "deq-core\[experiment\]==)(.*?)"',
    "CITATION.cff": r"^version: (.*)$",
}
"""Regular expressions whose group is the version, by file pattern; each file has at least one match."""


def find(root: Path = ROOT) -> dict[str, set[str]]:
    """The versions in each file of `PLACES`, by path."""
    return {
        path.relative_to(root).as_posix(): set(re.findall(place, path.read_text(), flags=re.MULTILINE))
        for pattern, place in PLACES.items()
        for path in sorted(root.glob(pattern))
    }


def current(root: Path = ROOT) -> str:
    """The common version of all packages.

    Raises:
        ValueError: versions differ, or a file has none.
    """
    found = find(root)
    versions = set().union(*found.values())
    if len(versions) != 1 or not all(found.values()):
        raise ValueError(
            f"expected one version everywhere, got {found}; write it by `python -m release.version VERSION`"
        )
    return versions.pop()


def write(version: str, root: Path = ROOT) -> None:
    """Replaces the version in all files.

    Raises:
        ValueError: the version does not have the form 1.2.3, optionally with a suffix such as rc1.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", version):
        raise ValueError(f"expected a version such as 0.2.0 or 0.2.0rc1, got {version!r}")
    for pattern, place in PLACES.items():
        for path in root.glob(pattern):
            text = path.read_text()
            for match in reversed(list(re.finditer(place, text, flags=re.MULTILINE))):
                text = f"{text[: match.start(1)]}{version}{text[match.end(1) :]}"
            path.write_text(text)


if __name__ == "__main__":
    try:
        for given in sys.argv[1:2]:
            write(given)
        print(current())
    except ValueError as error:
        sys.exit(f"release.version: {error}")
