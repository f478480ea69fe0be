"""Turns sections of params.yaml into frozen dataclasses, strictly. The only file that imports pydantic."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, TypeVar, overload

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo

from deq_core.experiment.config.document import DocumentError
from deq_core.experiment.config.document import read as read_document
from deq_core.experiment.config.errors import explain, meant, shown
from deq_core.experiment.errors import UserError

T = TypeVar("T")

Kind = Discriminator("kind")
"""Marks a union whose members say who they are in a field `kind`: `Annotated[Broyden | Anderson, Kind]`."""

NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$(?!\n)"
"""What a name looks like. A dot would part a section's keys; Python's $ alone matches before a last newline, too."""


def _plain(name: str) -> str:
    if re.search(NAME, name) is None:
        raise ValueError(f"a name is letters, digits, '-' and '_' (no '-' first), got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_plain), WithJsonSchema({"type": "string", "pattern": NAME})]
"""What becomes part of a path, of a stage's name or of a command: the name of a method, an experiment, a text."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""It stands behind a name and a '-' in paths. PyTorch's CPU generator uses 32 bits: two that differ above are one."""


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise ValueError(f"expected each once, got {twice[0]} more than once")
    return values


Once = Annotated[tuple[T, ...], AfterValidator(_each_once), Field(json_schema_extra={"uniqueItems": True})]
"""What means are taken over or curves drawn through: one that is there twice would count as two."""
Names = Once[Name]
Seeds = Once[Seed]
Budget = Annotated[float, Field(gt=0)]
"""What all jobs of a pipeline may take: minutes of one core that has no other work."""


def one_of(names: Iterable[str]) -> Any:
    """The type of a text that is one of some names, for names that are not written out where the type is."""
    known = tuple(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")
        return name

    return Annotated[str, AfterValidator(check), WithJsonSchema({"type": "string", "enum": list(known)})]


Scalar = str | int | float | bool


class ConfigError(UserError, ValueError):
    """A configuration that does not fit its dataclass; the message lists every key that is wrong."""


_sections_read: list[str] = []  # of the process, whatever loaded them: what `sections_read` is for
_profiles_read: list[str] = []  # likewise


@overload
def load(kind: type[T], path: Path, section: str = "") -> T: ...
@overload
def load(kind: Any, path: Path, section: str = "") -> Any: ...
def load(kind: Any, path: Path, section: str = "") -> Any:
    """The mapping at `section` of the YAML (or JSON) file `path` as an instance of the dataclass `kind`.

    Args:
        kind: a standard-library dataclass or a union of some; dataclasses within are read by the same rules.
        path: the file.
        section: where in the file, keys joined by dots, such as "flow.train"; "" is the whole file.

    Nothing is guessed: a key the dataclass does not have, a missing key, a string where a number is expected or a
    fraction where an integer is expected is an error. A list becomes a tuple, an integer may stand for a float.

    Raises:
        ConfigError: with one line for each key that is wrong: `file: section.key: expected ..., got ...`.
    """
    config = check(kind, path, section)
    if section not in _sections_read:
        _sections_read.append(section)
    document = _document(path)
    if isinstance(document, Mapping) and isinstance(document.get("profile"), str):
        _profiles_read.append(document["profile"])
    return config


def check(kind: Any, path: Path, section: str = "") -> Any:
    """As `load`, but not counted as read: for a section that must be right though its values are not used.

    Raises:
        ConfigError: as `load` does.
    """
    return _checked(kind, _at(section, _document(path), path), str(path), section)


def check_options(kinds: Mapping[str, Any], values: Mapping[str, object]) -> None:
    """Checks the options of a command, by their names, of which the type is one of the annotated ones above.

    Raises:
        ConfigError: as `load` does.
    """
    for name, value in values.items():
        if any(isinstance(mark, FieldInfo | AfterValidator) for mark in getattr(kinds.get(name), "__metadata__", ())):
            _checked(kinds[name], value, "options", f"--{name}")


def changed(recipe: T, options: Mapping[str, object]) -> T:
    """The dataclass `recipe` with other values, each under its keys joined by dots, such as "optim.lr"; None is none.

    Raises:
        ConfigError: as `load` does.
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
    """A value of a document as `kind`; `source` and `section` say where it is."""
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
    except ArithmeticError as error:  # of a dataclass's own checks
        raise ConfigError(f"{source}: {section or 'the document'}: numbers out of range: {error}") from error
    return config


def of_words(kind: type[T], words: Mapping[str, str]) -> T:
    """The dataclass `kind` of texts, one a field, as a command line has them: "3" is the number of a field of numbers.

    Raises:
        ConfigError: a text is not of its field's type; the message names each.
    """
    try:
        return TypeAdapter(kind).validate_strings(dict(words))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("; ".join(faults)) from None


def sections_read() -> tuple[str, ...]:
    """Sections loaded by this process so far, in order: what its results depend on."""
    return tuple(_sections_read)


def profile_read() -> str | None:
    """The name of the profile that the file of the last loaded section calls itself; None where it has none."""
    return _profiles_read[-1] if _profiles_read else None


@cache
def schema(kind: Any) -> dict[str, Any]:
    """JSON schema of the dataclass `kind`, which forbids unknown keys at every level.

    Docstrings are left out, so that a schema on disk is outdated by what a configuration may hold and by nothing else.
    """
    whole = _named(_undescribed(_adapter(kind).json_schema()))
    (inner,) = whole["prefixItems"]
    definitions = whole.get("$defs", {})
    name = inner.get("$ref", "").removeprefix("#/$defs/")
    if name and not _mentions(definitions, name):
        inner = definitions.pop(name)
    return {**inner, "$defs": definitions} if definitions else inner


def require_keys(name: str, wanted: Iterable[str], place: str, known: Iterable[str]) -> None:
    """Raises ValueError where something wanted is not known."""
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise ValueError(f"{name}: not in `{place}`: {', '.join(unknown)}; there: {', '.join(known)}")


def plain(config: object) -> Any:
    """`config` as what JSON knows: dataclasses become mappings, tuples lists, paths strings."""
    if is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, str | int | float | bool | None):
        return config
    if isinstance(config, Sequence):
        return [plain(value) for value in config]
    if isinstance(config, Path):
        return str(config)
    if callable(config) and hasattr(config, "__name__"):
        return config.__name__
    raise TypeError(
        f"a configuration holds dataclasses, mappings, sequences, numbers, strings and paths, got {config!r}"
    )


def flatten(config: object) -> dict[str, Scalar]:
    """Every leaf of the dataclass or mapping `config` under its dotted path: `{"optim.lr": 1e-3}`.

    A list of scalars is one leaf, written as JSON, as is an empty mapping; None is "none".
    """
    leaves: dict[str, Scalar] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, dict) and value:
            for key, item in value.items():
                visit(f"{prefix}.{key}", item)
        elif isinstance(value, dict | list):
            leaves[prefix] = json.dumps(value)
        else:
            leaves[prefix] = "none" if value is None else value

    for name, part in plain(config).items():
        visit(name, part)
    return leaves


@cache
def _adapter(kind: Any) -> TypeAdapter[tuple[Any]]:
    # pydantic refuses a configuration given for a dataclass itself; a tuple of one takes it and hands it down.
    tuple_of_one: Any = GenericAlias(tuple, (kind,))
    return TypeAdapter(tuple_of_one, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))


def _undescribed(shape: Any) -> Any:
    """A schema without the texts under `description`, which are docstrings."""
    if isinstance(shape, dict):
        kept = {key: value for key, value in shape.items() if key != "description" or not isinstance(value, str)}
        return {key: _undescribed(value) for key, value in kept.items()}
    return [_undescribed(item) for item in shape] if isinstance(shape, list) else shape


def _named(shape: Any) -> Any:
    """A schema that names what keys must look like, where pydantic lets others pass unread."""
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
