"""Reads YAML as DVC does: version 1.2, by ruamel.yaml, without anchors and aliases, which DVC's tools do not keep."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent

DEEPEST = 64
"""Levels of mappings and lists."""


class DocumentError(ValueError):
    """A file that is no YAML, or has what parameters do not have."""


class _Composer(Composer):
    """Composes plain trees: a few lines of aliases to aliases come to more values than any memory holds."""

    level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next value of the document."""
        if self.parser.check_event(AliasEvent):
            event = self.parser.peek_event()
            raise DocumentError(f"line {event.start_mark.line + 1}: *{event.anchor}: write the values out; no aliases")
        if self.level == DEEPEST:
            raise DocumentError(f"expected at most {DEEPEST} levels of mappings and lists, got more")
        self.level += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.level -= 1


def read(path: Path) -> Any:
    """The document in `path`, to be looked at and not changed: the same text is parsed once, and given to all.

    Raises:
        DocumentError: the file is no YAML, gives a key twice, or has aliases or more than `DEEPEST` levels.
        OSError: it cannot be read.
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
        raise DocumentError(f"not valid YAML: {' '.join(str(error).split())}") from error  # a tag may refuse its value
