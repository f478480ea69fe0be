"""Generated tables between markers in the documentation."""

import re
from collections.abc import Iterable, Sequence


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, with the first column left-aligned and the others right-aligned."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ruler, *rows))


def with_table(page: str, name: str, table: str) -> str:
    """`page` with `table` between `<!-- table name -->` and `<!-- end name -->`.

    Raises:
        ValueError: the page does not have these markers once each, in this order.
    """
    start, end = _markers(page, name)
    return f"{page[:start]}{table}\n{page[end:]}"


def read_table(page: str, name: str) -> dict[str, list[str]]:
    """Cells of each row by its first cell, without the header.

    Raises:
        ValueError: as for `with_table`.
    """
    start, end = _markers(page, name)
    lines = page[start:end].strip().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def _markers(page: str, name: str) -> tuple[int, int]:
    """Start and end of the text between the markers."""
    begin, end = f"<!-- table {name} -->\n", f"<!-- end {name} -->"
    found = re.findall(f"{re.escape(begin)}|{re.escape(end)}", page)
    if found != [begin, end]:
        raise ValueError(f"expected `{begin.strip()}` and then `{end}`, once each, found {[m.strip() for m in found]}")
    return page.index(begin) + len(begin), page.index(end)
