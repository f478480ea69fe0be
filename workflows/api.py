"""The public API of deq_core as one page: `python -m workflows.api` writes docs/api.md."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import Any, Protocol

import deq_core

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
NAMESPACES = (deq_core, deq_core.nn, deq_core.delta, deq_core.compat)
COMMAND = "python -m workflows.api"

_HEAD = f"""# The public API of deq_core

Every name that is promised, its signature, and the first line of its docstring; whatever has an underscore before it or
is not here may change at any time. Made by `{COMMAND}`; a test fails when this page is not what the code says.
"""


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *(_section(namespace) for namespace in NAMESPACES)])


def public(namespace: ModuleType) -> dict[str, Any]:
    """The public names of a namespace, in alphabetical order, without its modules."""
    found = {name: thing for name, thing in vars(namespace).items() if not name.startswith("_")}
    return {name: found[name] for name in sorted(found, key=str.lower) if not inspect.ismodule(found[name])}


def _section(namespace: ModuleType) -> str:
    entries = "\n".join(_entry(name, thing) for name, thing in public(namespace).items())
    return f"## {namespace.__name__}\n\n{_first_line(namespace)}\n\n{entries}"


def _entry(name: str, thing: Any) -> str:
    members = indent("\n".join(_members(thing)), "    ") if inspect.isclass(thing) else ""
    code = f"{name}{_signature(thing)}\n{members}".rstrip()
    return f"### {name}\n\n{_first_line(thing)}\n\n```python\n{code}\n```\n"


def _members(kind: type) -> Iterator[str]:
    """Properties and methods, those inherited within the library included; dataclass fields are in the signature."""
    members: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("deq_core"):
            members |= vars(base)
    for name in getattr(kind, "__dataclass_fields__", ()):
        members.pop(name, None)
    for name, member in members.items():
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property) and member.fget:
            yield f"{name}: {_annotation(inspect.signature(member.fget).return_annotation)}"
        elif inspect.isfunction(member):
            yield f"{name}{_signature(member)}"


def _signature(thing: Any) -> str:
    if inspect.isclass(thing) and (issubclass(thing, Exception) or Protocol in thing.__bases__):
        return f"({thing.__bases__[0].__name__})"
    signature = inspect.signature(thing)
    shown: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        text = parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {_value(parameter.default)}"
        shown.append(text)
    result = signature.return_annotation
    arrow = "" if result is signature.empty or inspect.isclass(thing) else f" -> {_annotation(result)}"
    line = f"({', '.join(shown)}){arrow}"
    return line if len(line) < 100 else "(\n    " + ",\n    ".join(shown) + f",\n){arrow}"


def _annotation(annotation: Any) -> str:
    """A type without the modules it comes from."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text).replace("~", "")


def _value(value: Any) -> str:
    """A default: of a frozen choice what it was made with, of a function its name."""
    if is_dataclass(value) and not isinstance(value, type):
        changed = [f.name for f in fields(value) if f.repr and getattr(value, f.name) != f.default]
        return f"{type(value).__name__}({', '.join(f'{name}={_value(getattr(value, name))}' for name in changed)})"
    return value.__name__ if inspect.isroutine(value) else repr(value)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page())
