"""Reads YAML 1.2 with ruamel.yaml, as DVC does."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, SequenceNode

DEEPEST = 64
"""Maximum nesting depth of mappings and lists."""
MOST = 1_000_000
"""Maximum number of values. Values behind an alias count once for each use."""


class DocumentError(ValueError):
    """The file is not valid YAML, or exceeds the limits on depth and size."""


class _Composer(Composer):
    """Composer that bounds the size of documents: a few lines of nested aliases can expand beyond any memory."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.level = 0
        self.values: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next value of the document."""
        if self.level == DEEPEST:
            raise DocumentError(f"expected at most {DEEPEST} levels of mappings and lists, got more")
        is_alias = self.parser.check_event(AliasEvent)
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        line = f"line {node.start_mark.line + 1}"
        if is_alias and id(node) not in self.values:
            raise DocumentError(f"{line}: a mapping or list contains itself")
        if not is_alias:
            self.values[id(node)] = 1 + sum(self.values[id(part)] for part in self.parts(node))
        if self.values[id(node)] > MOST:
            raise DocumentError(f"{line}: expected at most {MOST} values, got aliases that come to more")
        return node

    @staticmethod
    def parts(node: Any) -> list[Any]:
        """The nodes in a mapping or list."""
        if isinstance(node, MappingNode):
            if any(key.value == "<<" and isinstance(merged, SequenceNode) for key, merged in node.value):
                raise DocumentError(f"line {node.start_mark.line + 1}: << takes one mapping here, got a list of them")
            return [part for pair in node.value for part in pair]
        return node.value if isinstance(node, SequenceNode) else []


def read(path: Path) -> Any:
    """The document in `path`. Callers must not modify it: the result is cached and shared.

    Raises:
        DocumentError: the file is not valid YAML, repeats a key, contains itself, or has more than `DEEPEST` levels or
            `MOST` values.
        OSError: the file cannot be read.
    """
    return _parsed(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    reader = YAML(typ="safe", pure=True)
    reader.Composer = _Composer
    try:
        return reader.load(text)
    except DocumentError:
        raise
    except MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise DocumentError(f"not valid YAML: {line}{error.problem}") from error
    except (YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DocumentError(f"not valid YAML: {' '.join(str(error).split())}") from error  # tags raise these
