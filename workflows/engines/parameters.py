"""Checks params.yaml against the JSON schemas, before Snakemake plans any job.

The schemas are generated from the dataclasses of the packages, so this is the check that each command makes for itself,
made once and without importing a package.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.events import AliasEvent

PARAMS = Path("params.yaml")
SCHEMAS = Path(__file__).parents[1] / "schemas"
NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}

RULE = "a name is letters, digits, '-' and '_' (no '-' first)"
"""The only pattern of the schemas, in words."""


TYPES = {
    "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda _, value: isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf,
}
"""Types as the commands check them: 1.0 is not an integer, and infinity not a number."""
VALIDATOR: Any = extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(TYPES))


class ParameterError(ValueError):
    """Parameters are unknown, missing, or wrong."""


def load(file: Path = PARAMS, schemas: Path = SCHEMAS) -> dict[str, Any]:
    """The parameters of each pipeline, after a check against `schemas`/<pipeline>.json.

    The file is read as DVC reads it (UTF-8, and YAML 1.2, where 1e-3 is a number).

    Raises:
        ParameterError: lists each wrong key as `file: key: what was expected, what came`.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _WithoutAliases
    try:
        document = yaml.load(file.read_text(encoding="utf-8"))
    except Exception as error:  # text that is not YAML raises nearly anything
        raise ParameterError(f"{file}: cannot be read as YAML: {error}") from error
    return check(document, str(file), schemas)


class _WithoutAliases(Composer):
    """Refuses aliases, through which DVC's --set-param would change several places."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.parser.check_event(AliasEvent):
            event = self.parser.get_event()
            raise ValueError(
                f"line {event.start_mark.line + 1}: expected the value itself, got the alias *{event.anchor}; "
                "only workflows/profiles may have aliases"
            )
        return super().compose_node(parent, index)


def check(document: Any, name: str, schemas: Path = SCHEMAS) -> dict[str, Any]:
    """The parameters of each pipeline in a document with the key `profile`; `name` is its name in errors.

    Raises:
        ParameterError: as in `load`.
    """
    if not isinstance(document, Mapping):
        raise ParameterError(f"{name}: expected a mapping, got {shown(document)}")
    pipelines = {key: value for key, value in document.items() if key != "profile"}
    known = {path.stem: json.loads(path.read_text()) for path in sorted(schemas.glob("*.json"))}
    problems = [f"{key}: unknown key; known here: {', '.join(['profile', *known])}" for key in pipelines.keys() - known]
    problems += [f"{key}: missing" for key in known if key not in pipelines]
    if not isinstance(document.get("profile"), str):
        problems.append(f"profile: expected a name, got {shown(document.get('profile'))}")
    for key in known.keys() & pipelines.keys():
        for error in VALIDATOR(known[key]).iter_errors(pipelines[key]):
            problems += sentences(error, key)
    if problems:
        raise ParameterError("\n".join(f"{name}: {problem}" for problem in sorted(problems)))
    return pipelines


def sentences(error: ValidationError, prefix: str) -> Iterator[str]:
    """One sentence for each wrong key."""
    key = place(prefix, error.absolute_path)
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    match error.validator:
        case "additionalProperties":
            known = list(schema.get("properties", {}))
            given = error.instance if isinstance(error.instance, Mapping) else {}
            for name in sorted(given.keys() - set(known)):
                yield f"{key}.{name}: unknown key; known here: {', '.join(known)}"
        case "required":
            for name in schema["required"]:
                if f"'{name}' is a required" in error.message:  # jsonschema reports missing keys one by one
                    yield f"{key}.{name}: missing"
        case "anyOf" | "oneOf":
            yield from union_sentences(error, key, prefix)
        case "pattern":
            where = [part for part in error.absolute_path if isinstance(part, str)]  # the name identifies the item
            yield f"{place(prefix, where)}: {RULE}, got {error.instance!r}"
        case "uniqueItems":
            yield f"{key}: expected each once, got {shown(error.instance)}"
        case "type" | "enum" | "const":
            yield f"{key}: expected {expected(schema)}, got {shown(error.instance)}"
        case _:
            yield f"{key}: {error.message}"


def place(prefix: str, keys: Iterable[int | str]) -> str:
    """Keys joined by dots."""
    return ".".join([prefix, *map(str, keys)])


def union_sentences(error: ValidationError, key: str, prefix: str) -> Iterator[str]:
    """Describes the problem of the intended alternative: the one with the value's `kind`, or else of its type."""
    alternatives: dict[int | str, list[ValidationError]] = {}
    for problem in error.context or ():
        alternatives.setdefault(problem.relative_schema_path[0], []).append(problem)
    meant = [problems for problems in alternatives.values() if not any(map(is_excluded, problems))]
    if meant:
        for problem in meant[0]:
            yield from sentences(problem, prefix)
        return
    excluded = [problem for problems in alternatives.values() for problem in problems if is_excluded(problem)]
    of_kind = [problem for problem in excluded if problem.relative_path]
    if of_kind:
        key, excluded = f"{key}.kind", of_kind
    wanted = dict.fromkeys(expected(problem.schema) for problem in excluded if isinstance(problem.schema, Mapping))
    yield f"{key}: expected {' or '.join(wanted)}, got {shown(excluded[0].instance)}"


def is_excluded(problem: ValidationError) -> bool:
    """Whether the value has another type or another `kind` than the alternative."""
    at = list(problem.relative_path)
    return (not at and problem.validator == "type") or (at == ["kind"] and problem.validator in ("const", "enum"))


def expected(schema: Mapping[str, Any]) -> str:
    """The values that a schema accepts, in words."""
    if "const" in schema or "enum" in schema:
        return " or ".join(map(repr, schema.get("enum", [schema.get("const")])))
    types: str | Sequence[str] = schema["type"]
    return " or ".join(NAMES[name] for name in ([types] if isinstance(types, str) else types))


def shown(value: object) -> str:
    """A value in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {value!r}"
        case Mapping():
            return "a mapping with " + (", ".join(map(str, value)) or "no keys")
        case _:
            return repr(value)
