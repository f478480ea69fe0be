"""Checks the running profile of params.yaml against the JSON schemas, before Snakemake plans any job.

The schemas are generated from the packages' dataclasses, so this is the check that every command makes for itself,
made once and without importing a package.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from ruamel.yaml import YAML

PARAMS = Path("params.yaml")
SCHEMAS = Path(__file__).parent / "schemas"
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
"""The one pattern of the schemas, in words."""

MOST = 1_000_000
"""Values of a document; a few lines of aliases to aliases come to more than any memory holds."""


class ParameterError(ValueError):
    """Some parameters are unknown, missing, or not what they should be."""


def load(file: Path = PARAMS, schemas: Path = SCHEMAS) -> dict[str, Any]:
    """The running profile, the mapping `run`, one key a pipeline; each agrees with `schemas`/<pipeline>.json.

    The file is read as DVC reads it (YAML 1.2, where 1e-3 is a number).

    Raises:
        ParameterError: lists every bad key as `file: key: what was expected, what came`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an anchor that is given twice, which the packages' reader refuses too
            document = YAML(typ="safe", pure=True).load(file)
        count(document, {})
    except Exception as error:  # on what is no YAML, or a mapping that holds itself, nearly anything is raised
        raise ParameterError(f"{file}: cannot be read as YAML: {error}") from error
    profile = document.get("run") if isinstance(document, Mapping) else None
    if not isinstance(profile, Mapping):
        raise ParameterError(f"{file}: run: expected a profile, as in `run: *mini`, got {shown(profile)}")
    known = {path.stem: json.loads(path.read_text()) for path in sorted(schemas.glob("*.json"))}
    problems = [f"run.{name}: unknown key; known here: {', '.join(known)}" for name in profile if name not in known]
    problems += [f"run.{name}: missing" for name in known if name not in profile]
    for name in known.keys() & profile.keys():
        for error in Draft202012Validator(known[name]).iter_errors(profile[name]):
            problems += sentences(error, f"run.{name}")
    if problems:
        raise ParameterError("\n".join(f"{file}: {problem}" for problem in sorted(problems)))
    return dict(profile)


def count(value: Any, known: dict[int, int]) -> int:
    """How many values a document has, those behind an alias as often as they are named; raises where they are many."""
    if not isinstance(value, Mapping | list):
        return 1
    if id(value) not in known:
        parts = value.values() if isinstance(value, Mapping) else value
        known[id(value)] = 1 + sum(count(part, known) for part in parts)
    if known[id(value)] > MOST:
        raise ValueError(f"expected at most {MOST} values, got aliases that come to more")
    return known[id(value)]


def sentences(error: ValidationError, prefix: str) -> Iterator[str]:
    """What is wrong, one sentence a key."""
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
            where = [part for part in error.absolute_path if isinstance(part, str)]  # the name itself tells which item
            yield f"{place(prefix, where)}: {RULE}, got {error.instance!r}"
        case "type" | "enum" | "const":
            yield f"{key}: expected {expected(schema)}, got {shown(error.instance)}"
        case _:
            yield f"{key}: {error.message}"


def place(prefix: str, keys: Iterable[int | str]) -> str:
    """Keys joined by dots."""
    return ".".join([prefix, *map(str, keys)])


def union_sentences(error: ValidationError, key: str, prefix: str) -> Iterator[str]:
    """Speaks of the alternative that the value means: the one of its `kind`, or else of its type."""
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
    """Whether a problem says that the value is of another type or another `kind` than the alternative."""
    at = list(problem.relative_path)
    return (not at and problem.validator == "type") or (at == ["kind"] and problem.validator in ("const", "enum"))


def expected(schema: Mapping[str, Any]) -> str:
    """What a schema accepts, in words."""
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
