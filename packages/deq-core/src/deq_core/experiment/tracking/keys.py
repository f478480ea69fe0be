"""Any text as a key of MLflow's, which may have 250 letters, digits, spaces and _ - . : / alone, and is like a path."""

import hashlib
import posixpath
import re

LONGEST = 250


def key_of(text: str) -> str:
    """A key for `text`: itself where it may be, else with `:` and two hex digits for each byte that may not.

    So "lr=1e-3" is "lr:3D1e-3". Different texts have different keys. One that would be too long is cut, and ends in
    `::` and the text's `digest`.
    """
    found = re.sub(r"[^\w\-. /]", _escaped, text)
    if posixpath.normpath(found) != found or found.startswith(("/", "..")) or found == ".":
        found = re.sub(r"[./]", _escaped, found) or ":"
    return found if len(found) <= LONGEST else f"{found[: LONGEST - 34]}::{digest(text)}"


def text_of(key: str) -> str:
    """The text of a key that was not cut."""
    if key == ":":
        return ""
    raw = re.sub(rb":([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), key.encode())
    return raw.decode("utf-8", "surrogatepass")


def digest(text: str) -> str:
    """32 hex digits that stand for `text`."""
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _escaped(match: re.Match[str]) -> str:
    return "".join(f":{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
