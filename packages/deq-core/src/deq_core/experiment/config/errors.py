"""Error messages for configurations in the terms of the file: key, expected value, actual value."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def explain(details: Mapping[str, Any], value: Any, shape: dict[str, Any], section: str) -> str:
    """`section.key: expected ..., got ...` for one error of pydantic."""
    keys, parent, here = _locate(details["loc"][1:], value, shape)
    name = ".".join([section, *keys] if section else keys) or "the document"
    got = shown(details["input"])
    context = details.get("ctx", {})
    match details["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            known, key = list(parent.get("properties", {})), str(details["loc"][-1])
            return f"{name}: expected one of the keys {', '.join(known)}, got {key!r}{meant(key, known)}"
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return f"{name}: expected {_described(here)}, got nothing"
        case "union_tag_not_found":
            tags = here.get("discriminator", {}).get("mapping", {})
            return f"{name}.kind: expected one of {', '.join(tags)}, got nothing"
        case "union_tag_invalid":
            tags = list(here.get("discriminator", {}).get("mapping", {}))
            tag = str(context["tag"])
            return f"{name}.kind: expected one of {', '.join(tags)}, got {tag!r}{meant(tag, tags)}"
        case "literal_error":
            options = [option.strip("'") for option in str(context["expected"]).replace(" or ", ", ").split(", ")]
            return f"{name}: expected {context['expected']}, got {got}{meant(str(details['input']), options)}"
        case "value_error" | "assertion_error":
            return f"{name}: {context['error']}"
        case _:
            expected = details["msg"].removeprefix("Input should be ")
            return f"{name}: expected {expected}, got {got}"


def _locate(loc: Sequence[int | str], value: Any, shape: dict[str, Any]) -> tuple[list[str], dict, dict]:
    """Keys in the file that `loc` stands for, and the schemas of the last key's parent and of the last key.

    pydantic's paths include the member of a union (`solver.anderson.window`), which is not a key of the file.
    """
    definitions = shape.get("$defs", {})
    keys: list[str] = []
    parent: dict[str, Any] = {}
    here = _resolve(shape, value, definitions)
    for index, key in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(value, list) and isinstance(key, int):
            parent, keys = here, [*keys, str(key)]
            prefix = here.get("prefixItems", [])
            inner = prefix[key] if key < len(prefix) else here.get("items", {})
            value = value[key] if key < len(value) else None
        elif isinstance(value, dict) and (key in value or (last and key in here.get("properties", {}))):
            parent, keys = here, [*keys, str(key)]
            inner = here.get("properties", {}).get(key) or here.get("additionalProperties") or {}
            value = value.get(key)
        else:
            continue
        here = _resolve(inner, value, definitions)
    return keys, parent, here


def _resolve(shape: dict[str, Any], value: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """`shape` with references resolved; for a union, the member that `value` names."""
    while True:
        if "$ref" in shape:
            shape = definitions[shape["$ref"].removeprefix("#/$defs/")]
            continue
        mapping = shape.get("discriminator", {}).get("mapping", {})
        kind = value.get("kind") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind in mapping:
            shape = {"$ref": mapping[kind]}
            continue
        members = [member for member in shape.get("anyOf", ()) if member.get("type") != "null"]
        if len(members) != 1:
            return shape
        (shape,) = members


def _described(shape: dict[str, Any]) -> str:
    if "enum" in shape:
        return "one of " + ", ".join(str(option) for option in shape["enum"])
    if "discriminator" in shape:
        return "a mapping whose kind is one of " + ", ".join(shape["discriminator"]["mapping"])
    names = {"integer": "an integer", "number": "a number", "string": "a string", "boolean": "true or false"}
    names |= {"array": "a list", "object": "a mapping", "null": "null"}
    return names.get(str(shape.get("type")), "a value")


def shown(value: Any) -> str:
    """`value` as JSON, cut to 80 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def meant(key: str, known: Sequence[str]) -> str:
    """A question "did you mean ...?" with the closest match in `known`; empty if nothing is close."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
