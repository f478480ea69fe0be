"""Writes the table of licences of the pinned versions in docs/licences.md: `python -m release.licences`."""

from collections.abc import Iterator

from benchmarks.core.pages import markdown, with_table
from packaging.utils import canonicalize_name

from release.dependencies import ROOT, closure, licence
from release.distributions import PACKAGES

PAGE = ROOT / "docs" / "licences.md"
INSTALLATIONS = ("deq-core", "deq-core[experiment]", *PACKAGES[1:], "deq-flow[export,spring]")
TOOLS = "tools of this repository"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Name, version, licence and dependent package of each distribution that constraints.txt pins."""
    needed = {installation: closure([installation]) for installation in INSTALLATIONS}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            canonical = canonicalize_name(name)
            yield name, version, licence(canonical), next((one for one in needed if canonical in needed[one]), TOOLS)


def made(page: str) -> str:
    """The page with the table of pinned versions and installed licences."""
    table = markdown(
        ("package", "version", "licence", "comes first with"), sorted(rows(), key=lambda row: row[0].lower())
    )
    return with_table(page, "dependencies", table.replace("---:", "---"))


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text()))
