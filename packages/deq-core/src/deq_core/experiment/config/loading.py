"""Turns sections of params.yaml into frozen dataclasses, strictly. The only file that imports pydantic."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, TypeVar, overload

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo

from deq_core.experiment.config.document import DocumentError
from deq_core.experiment.config.document import read as read_document
from deq_core.experiment.config.errors import explain, meant, shown
from deq_core.experiment.config.values import plain
from deq_core.experiment.errors import UserError

T = TypeVar("T")

Kind = Discriminator("kind")
"""Marks a union whose members are told apart by their field `kind`: `Annotated[Broyden | Anderson, Kind]`."""

NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$(?!\n)"
"""Pattern of names. Dots are excluded because they separate keys. Python's $ also matches before a final newline."""


def _plain(name: str) -> str:
    if re.search(NAME, name) is None:
        raise ValueError(f"a name is letters, digits, '-' and '_' (no '-' first), got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_plain), WithJsonSchema({"type": "string", "pattern": NAME})]
"""String that becomes part of a path, a stage name or a command, such as the name of a method or an experiment."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Seed, also used in paths (`name-seed`). PyTorch's CPU generator uses only the lower 32 bits."""


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise ValueError(f"expected each once, got {twice[0]} more than once")
    return values


Once = Annotated[tuple[T, ...], AfterValidator(_each_once), Field(json_schema_extra={"uniqueItems": True})]
"""Values without repetition: means are taken over them, so a repeated value would count twice."""
Names = Once[Name]
Seeds = Once[Seed]
Budget = Annotated[float, Field(gt=0)]
"""Time budget for all jobs of a pipeline, in minutes on one otherwise idle core."""


def one_of(names: Iterable[str]) -> Any:
    """A string type that allows only `names`; unlike `Literal`, it takes names known only at run time."""
    known = tuple(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")
        return name

    return Annotated[str, AfterValidator(check), WithJsonSchema({"type": "string", "enum": list(known)})]


class ConfigError(UserError, ValueError):
    """A configuration or an option is not valid; the message lists every wrong key."""


_sections_read: list[str] = []  # per process: a command's results depend on all sections that any code loaded
_profiles_read: list[str] = []  # likewise


@overload
def load(kind: type[T], path: Path, section: str = "") -> T: ...
@overload
def load(kind: Any, path: Path, section: str = "") -> Any: ...
def load(kind: Any, path: Path, section: str = "") -> Any:
    """The mapping at `section` of the YAML (or JSON) file `path` as an instance of the dataclass `kind`.

    Args:
        kind: a standard-library dataclass or a union of dataclasses; nested dataclasses follow the same rules.
        path: the file.
        section: keys joined by dots, such as "flow.train"; "" is the whole file.

    Reading is strict: an unknown key, a missing key, a string in place of a number and a fraction in place of an
    integer are errors. Lists become tuples, and an integer is accepted as a float.

    Raises:
        ConfigError: the file cannot be read, the section is missing, or it does not fit: one line for each wrong key,
            `file: section.key: expected ..., got ...`.
    """
    config = check(kind, path, section)
    if section not in _sections_read:
        _sections_read.append(section)
    document = _document(path)
    if isinstance(document, Mapping) and isinstance(document.get("profile"), str):
        _profiles_read.append(document["profile"])
    return config


def check(kind: Any, path: Path, section: str = "") -> Any:
    """Like `load`, but not recorded in `sections_read`: for a section that must be valid but whose values are unused.

    Raises:
        ConfigError: as in `load`.
    """
    return _checked(kind, _at(section, _document(path), path), str(path), section)


def check_options(kinds: Mapping[str, Any], values: Mapping[str, object]) -> None:
    """Checks those of a command's options whose type is one of the annotated types above.

    Raises:
        ConfigError: as in `load`.
    """
    for name, value in values.items():
        if any(isinstance(mark, FieldInfo | AfterValidator) for mark in getattr(kinds.get(name), "__metadata__", ())):
            _checked(kinds[name], value, "options", f"--{name}")


def changed(recipe: T, options: Mapping[str, object]) -> T:
    """The dataclass `recipe` with values replaced under dotted keys such as "optim.lr"; None leaves a value unchanged.

    Raises:
        ConfigError: as in `load`.
    """
    document = plain(recipe)
    for name, value in options.items():
        *above, last = name.split(".")
        inner = document
        for key in above:
            inner = inner[key]
        if value is not None:
            inner[last] = plain(value)
    return _checked(type(recipe), document, "options", "") if any(v is not None for v in options.values()) else recipe


def _checked(kind: Any, value: Any, source: str, section: str) -> Any:
    """A value of a document as `kind`; `source` and `section` locate it in error messages."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{source}: {section or 'the document'}: not plain mappings, lists and numbers: {error}"
        ) from None
    adapter = _adapter(kind)
    try:
        (config,) = adapter.validate_json(f"[{text}]")
    except ValidationError as error:
        shape = schema(kind)
        lines = dict.fromkeys(explain(details, value, shape, section) for details in error.errors())
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None
    except ArithmeticError as error:  # raised by a dataclass's own checks
        raise ConfigError(f"{source}: {section or 'the document'}: numbers out of range: {error}") from error
    return config


def of_words(kind: type[T], words: Mapping[str, str]) -> T:
    """The dataclass `kind` from command-line strings, one for each field, parsed as the field's type.

    Raises:
        ConfigError: a string does not parse as its field's type; the message names every such field.
    """
    try:
        return TypeAdapter(kind).validate_strings(dict(words))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("; ".join(faults)) from None


def sections_read() -> tuple[str, ...]:
    """Sections loaded by this process so far, in order; its results depend on them."""
    return tuple(_sections_read)


def profile_read() -> str | None:
    """The value of `profile` in the last loaded file that has this key; None if no loaded file has it."""
    return _profiles_read[-1] if _profiles_read else None


@cache
def schema(kind: Any) -> dict[str, Any]:
    """JSON schema of the dataclass `kind`, which forbids unknown keys at every level.

    Docstrings are left out, so that a schema file changes only when the allowed configurations do.
    """
    whole = _named(_undescribed(_adapter(kind).json_schema()))
    (inner,) = whole["prefixItems"]
    definitions = whole.get("$defs", {})
    name = inner.get("$ref", "").removeprefix("#/$defs/")
    if name and not _mentions(definitions, name):
        inner = definitions.pop(name)
    return {**inner, "$defs": definitions} if definitions else inner


def require_keys(name: str, wanted: Iterable[str], place: str, known: Iterable[str]) -> None:
    """Raises ValueError if `wanted` has keys that are not in `known`."""
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise ValueError(f"{name}: not in `{place}`: {', '.join(unknown)}; there: {', '.join(known)}")


@cache
def _adapter(kind: Any) -> TypeAdapter[tuple[Any]]:
    # pydantic refuses a config for a standard dataclass, but applies that of an enclosing tuple to it
    tuple_of_one: Any = GenericAlias(tuple, (kind,))
    return TypeAdapter(tuple_of_one, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))


def _undescribed(shape: Any) -> Any:
    """A schema without its `description` texts, which are docstrings."""
    if isinstance(shape, dict):
        kept = {key: value for key, value in shape.items() if key != "description" or not isinstance(value, str)}
        return {key: _undescribed(value) for key, value in kept.items()}
    return [_undescribed(item) for item in shape] if isinstance(shape, list) else shape


def _named(shape: Any) -> Any:
    """A schema that constrains keys by `propertyNames`; pydantic's `patternProperties` allows any other key."""
    if isinstance(shape, dict):
        shape = {key: _named(value) for key, value in shape.items()}
        if isinstance(patterns := shape.pop("patternProperties", None), dict):
            ((pattern, inner),) = patterns.items()
            shape |= {"additionalProperties": inner, "propertyNames": {"pattern": pattern}}
        return shape
    return [_named(item) for item in shape] if isinstance(shape, list) else shape


def _document(path: Path) -> Any:
    try:
        return read_document(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected the parameters there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from error


def _at(section: str, document: Any, path: Path) -> Any:
    value = document
    seen: list[str] = []
    for key in section.split(".") if section else ():
        if not isinstance(value, dict) or key not in value:
            known = [str(name) for name in value] if isinstance(value, dict) else []
            where = ".".join(seen) or "the top level"
            has = f"it has {', '.join(known)}" if known else f"it is {shown(value)}"
            raise ConfigError(f"{path}: {section}: no section {key!r} in {where}; {has}{meant(key, known)}")
        value = value[key]
        seen.append(key)
    return value


def _mentions(definitions: Any, name: str) -> bool:
    return f'"#/$defs/{name}"' in json.dumps(definitions)
