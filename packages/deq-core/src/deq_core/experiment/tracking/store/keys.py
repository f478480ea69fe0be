"""Encodes any text as an MLflow key: a path-like string of at most 250 letters, digits, spaces and _ - . : / only."""

import hashlib
import posixpath
import re

LONGEST = 250


def key_of(text: str) -> str:
    """The key of `text`, in which `:` and two hex digits replace each byte that is not allowed.

    For instance, "lr=1e-3" becomes "lr:3D1e-3". Different texts have different keys. A key that would be too long is
    cut and ends in `::` and the text's `digest`.
    """
    found = re.sub(r"[^\w\-. /]", _escaped, text)
    if posixpath.normpath(found) != found or found.startswith(("/", "..")) or found == ".":
        found = re.sub(r"[./]", _escaped, found) or ":"
    return found if len(found) <= LONGEST else f"{found[: LONGEST - 34]}::{digest(text)}"


def text_of(key: str) -> str:
    """The text of a key that was not cut; inverse of `key_of`."""
    if key == ":":
        return ""
    raw = re.sub(rb":([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), key.encode())
    return raw.decode("utf-8", "surrogatepass")


def digest(text: str) -> str:
    """MD5 of `text`, 32 hex digits."""
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _escaped(match: re.Match[str]) -> str:
    return "".join(f":{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
