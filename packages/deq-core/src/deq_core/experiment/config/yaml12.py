"""Reads YAML by the 1.2 core schema, as DVC does, with PyYAML, whose own reading is that of YAML 1.1."""

import io
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

MOST = 1_000_000
DEEPEST = 64
_BRACKETS = re.compile(rf"(?:[\[{{]\s*){{{DEEPEST + 1}}}")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of the YAML 1.2 core schema (https://yaml.org/spec/1.2.2, section 10.3).

    Under YAML 1.1 `1e-3` is a string (its floats need a dot and a signed exponent), `no` is false, `1:30` is ninety
    and `010` is eight. DVC reads the same file by YAML 1.2, so a parameter would change its value with its reader.
    The merge key `<<` stays, since profiles are built of anchors.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of `node`; raises where a key is given twice, of which PyYAML would keep the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Puts what `<<` merges in front of a mapping's own; raises where merges of merges come to too much."""
        super().flatten_mapping(node)
        if len(node.value) > MOST // 10:
            raise yaml.constructor.ConstructorError(None, None, "merges come to too many keys", node.start_mark)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def read(path: Path) -> Any:
    """The document in `path`, to be looked at and not changed: the same text is parsed once, and given to all.

    Raises:
        yaml.YAMLError: the file is no YAML, a mapping or list in it contains itself, or its aliases come to more than
            `MOST` values or its brackets to more than `DEEPEST` levels.
        OSError: it cannot be read.
    """
    return _parsed(path.read_text(encoding="utf-8"), path)


def count(value: Any, level: int = 0, known: dict[int, int] | None = None) -> int:
    """How many values a document has, those behind an alias as often as they are named."""
    known = {} if known is None else known
    if level > DEEPEST:
        raise yaml.YAMLError(f"expected at most {DEEPEST} levels of mappings and lists, got more, or one in itself")
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(count(child, level + 1, known) for child in children)
    if known[id(value)] > MOST:
        raise yaml.YAMLError(f"expected at most {MOST} values, got aliases that come to more")
    return known[id(value)]


@lru_cache(maxsize=4)
def _parsed(text: str, path: Path) -> Any:
    stream = io.StringIO(text)
    stream.name = str(path)  # what PyYAML calls it in an error
    if _BRACKETS.search(text):  # PyYAML takes minutes for them
        raise yaml.YAMLError(f"expected at most {DEEPEST} levels of mappings and lists, got more")
    try:
        document = yaml.load(stream, Loader=_Loader)
    except yaml.YAMLError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise yaml.YAMLError(f"a value that its tag does not allow, or too many levels: {error}") from error
    count(document)
    return document
