"""The table of licences in docs/licences.md, of the pinned versions: `python -m release.licences` writes it."""

from collections.abc import Iterator

from benchmarks.core.pages import markdown, with_table
from packaging.utils import canonicalize_name

from release.dependencies import ROOT, closure, licence
from release.distributions import PACKAGES

PAGE = ROOT / "docs" / "licences.md"
INSTALLATIONS = ("deq-core", "deq-core[experiment]", *PACKAGES[1:], "deq-flow[export,spring]")
TOOLS = "tools of this repository"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Name, version, licence, and what a distribution comes with, for each that constraints.txt pins."""
    needed = {installation: closure([installation]) for installation in INSTALLATIONS}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            canonical = canonicalize_name(name)
            yield name, version, licence(canonical), next((one for one in needed if canonical in needed[one]), TOOLS)


def made(page: str) -> str:
    """The page with the table of the pins and of what is installed now."""
    table = markdown(
        ("package", "version", "licence", "comes first with"), sorted(rows(), key=lambda row: row[0].lower())
    )
    return with_table(page, "dependencies", table.replace("---:", "---"))


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text()))
