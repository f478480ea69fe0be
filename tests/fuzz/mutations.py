"""Damaged copies of a file's bytes: as disks and networks leave them, and as somebody would write them on purpose."""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

EXTREMES = (0, 1, -1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64)
"""Numbers at which fields overflow, become negative, or ask for all memory."""
WORDS = (*map(str, EXTREMES), "9" * 5000, "1e400", "-1e400", "nan", "1e-3", "1.2.3", "0x7fffffff", "", "-", "é")
"""What a number in a text may be replaced by."""
VALUES = (
    *EXTREMES,
    10**30,
    None,
    True,
    False,
    0.5,
    1e308,
    "",
    "a" * 3000,
    "\ud800",
    [],
    {},
    [[]],
    {"": 0},
    [None] * 20,
)
"""What a value of a JSON document may be replaced by."""

Mutation = Callable[[bytearray, random.Random], None]


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """`data` with one to three changes; now and then the file of another reader instead, or a part of one in it."""
    chance = rng.random()
    if chance < 0.02:
        return rng.choice(others)
    if chance < 0.05:
        other = rng.choice(others)
        place = rng.randrange(len(data) + 1)
        return data[:place] + other[: rng.randrange(len(other) + 1)] + data[place:]
    if (document := parsed(data)) is not None and chance < 0.7:
        for _ in range(rng.randint(1, 2)):
            document = changed_document(document, rng)
        return written(document, rng)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        rng.choice(MUTATIONS)(changed, rng)
    return bytes(changed)


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[place(data, rng)] ^= 1 << rng.randrange(8)


def set_bytes(data: bytearray, rng: random.Random) -> None:
    start = place(data, rng)
    count = min(rng.choice((1, 1, 4, 16, 200)), len(data) - start)
    data[start : start + count] = rng.choice((bytes(count), b"\xff" * count, rng.randbytes(count)))


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.choice((0, place(data, rng), rng.randrange(len(data) + 1), max(0, len(data) - 1))) :]


def delete(data: bytearray, rng: random.Random) -> None:
    start = place(data, rng)
    del data[start : start + rng.choice((1, 2, 8, 100, len(data) // 2))]


def duplicate(data: bytearray, rng: random.Random) -> None:
    start = place(data, rng)
    piece = bytes(data[start : start + rng.choice((1, 4, 30, 512, len(data) // 2))])
    where = place(data, rng)
    data[where:where] = piece * rng.choice((1, 1, 2, 20))


def insert(data: bytearray, rng: random.Random) -> None:
    where = place(data, rng)
    data[where:where] = rng.choice((b"\0", b"\n", b"[" * 3000, b"{" * 200, rng.randbytes(rng.choice((1, 3, 50)))))


def append(data: bytearray, rng: random.Random) -> None:
    data.extend(rng.choice((b"\0", bytes(512), bytes(data[:64]), rng.randbytes(20))))


def set_number(data: bytearray, rng: random.Random) -> None:
    """A binary field becomes an extreme of its width."""
    width = rng.choice((1, 2, 4, 4, 8))
    start = place(data, rng)
    if start + width <= len(data):
        number = rng.choice(EXTREMES) % 256**width
        data[start : start + width] = number.to_bytes(width, rng.choice(("little", "big")))


def set_decimal(data: bytearray, rng: random.Random) -> None:
    """A number in a text, or in a header of text, becomes another one."""
    if found := [match.span() for match in re.finditer(rb"-?\d+(\.\d+)?", data[:20_000])]:
        start, end = rng.choice(found[:8] if rng.random() < 0.5 else found)
        data[start:end] = rng.choice(WORDS).encode()


def swap_lines(data: bytearray, rng: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    data[:] = b"\n".join(lines)


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    set_bytes,
    truncate,
    delete,
    duplicate,
    insert,
    append,
    set_number,
    set_number,
    set_decimal,
    set_decimal,
    swap_lines,
)


def place(data: bytearray, rng: random.Random) -> int:
    """A position, half of the time near an end of the file, where headers and tables of contents are."""
    length = len(data)
    if length == 0:
        return 0
    near = min(length, rng.choice((16, 64, 256, 1024)))
    match rng.randrange(4):
        case 0:
            return rng.randrange(near)
        case 1:
            return length - 1 - rng.randrange(near)
        case _:
            return rng.randrange(length)


def parsed(data: bytes) -> Any:
    """The JSON document in `data`; None where there is none, or one that is no mapping or list."""
    if data[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(data)
    except ValueError:
        return None


def changed_document(document: Any, rng: random.Random) -> Any:
    """A copy in which one place holds something else, is gone, or has another name."""
    copy = json.loads(json.dumps(document))
    containers = list(walk(copy))
    if not containers or rng.random() < 0.03:
        return rng.choice(VALUES)
    container = rng.choice(containers)
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    if not keys:
        return [copy] if rng.random() < 0.5 else {"": copy}
    key = rng.choice(keys)
    match rng.randrange(6):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[str(key) + rng.choice("x. é")] = container.pop(key)
        case 2:
            other = rng.choice(keys)
            container[key], container[other] = container[other], container[key]
        case 3:
            container[key] = nested(rng)
        case _:
            container[key] = rng.choice(VALUES)
    return copy


def walk(document: Any) -> Any:
    """Every mapping and list of a document that is not empty."""
    children = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    if isinstance(document, dict | list):
        yield document
    for child in children:
        yield from walk(child)


def nested(rng: random.Random) -> Any:
    value: Any = 0
    for _ in range(rng.choice((3, 50, 400))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def written(document: Any, rng: random.Random) -> bytes:
    """As JSON; now and then with the constants that only Python's has, a huge number, or an alias of YAML's."""
    text = json.dumps(document, indent=rng.choice((None, 2)), ensure_ascii=rng.random() < 0.8)
    chance = rng.random()
    if chance < 0.03:
        text = re.sub(r"\d+", "9" * 5000, text, count=1)
    elif chance < 0.06:
        text = re.sub(r"\d+", rng.choice(("NaN", "Infinity", "1e999")), text, count=1)
    elif chance < 0.09:
        text = re.sub(r"([{\[])", r"&a \1", text, count=1)
        text = re.sub(r"\d+", "*a", text, count=1)
    return text.encode(errors="surrogatepass")
