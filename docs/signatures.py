"""Writes the signatures of the public API into docs/api.md: `python -m docs.signatures`.

Parameters and their defaults, without types: what a caller's code depends on. A test compares the page with the code.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from benchmarks.core.pages import with_table

import deq_core
from deq_core.experiment.files import write_text

PAGE = Path(__file__).parent / "api.md"
NAMESPACES = {"deq": deq_core, "deq.nn": deq_core.nn, "deq.delta": deq_core.delta, "deq.compat": deq_core.compat}


def public() -> Iterator[tuple[str, str, object]]:
    """Namespace, name and object of everything public."""
    for prefix, namespace in NAMESPACES.items():
        for name, thing in vars(namespace).items():
            if not name.startswith("_") and not inspect.ismodule(thing):
                yield prefix, name, thing


def signature(thing: object) -> str:
    """`(f, z0, *, solver=None)`, without types; a default that is a function or a class is its name."""
    if inspect.isclass(thing) and (issubclass(thing, BaseException) or getattr(thing, "_is_protocol", False)):
        return ""  # nothing that a caller makes
    found = inspect.signature(thing)  # pyright: ignore[reportArgumentType]  each is callable
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values() if one.name != "self"]
    written = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r"<(?:function|class) '?(?:\w+\.)*(\w+)'?(?: at \w+)?>", r"\1", written)


def signatures() -> str:
    """A line for each name, and below a class its public methods."""
    lines: list[str] = []
    for prefix, name, thing in public():
        lines.append(f"{prefix}.{name}{signature(thing)}")
        if inspect.isclass(thing):
            methods = [(own, value) for own, value in vars(thing).items() if inspect.isfunction(value)]
            lines += [f"    .{own}{signature(value)}" for own, value in methods if own == "__call__" or own[0] != "_"]
    wrapped = [textwrap.fill(line, 118, subsequent_indent=" " * 8, break_on_hyphens=False) for line in lines]
    return "\n".join(["```text", *wrapped, "```"])


def page(text: str) -> str:
    """The page with the signatures of the code."""
    return with_table(text, "signatures", signatures())


if __name__ == "__main__":
    write_text(PAGE, page(PAGE.read_text()))
