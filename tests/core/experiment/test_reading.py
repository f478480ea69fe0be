"""Whatever is wrong with a file, its reader says so with the path, and asks for no memory that the file cannot need."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deq_core.experiment import config, reading
from deq_core.experiment import tables as results
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.data import npy, released
from deq_core.experiment.errors import LayoutError, ResultsError


class OwnError(ValueError):
    """The error of a reader."""


def test_anything_that_a_decoder_raises_becomes_the_readers_error(tmp_path: Path) -> None:
    for error in (KeyError("x"), MemoryError(), RecursionError("deep"), ZeroDivisionError("a\nb")):
        with (
            pytest.raises(OwnError, match=r"a\.bin: expected words, got .+; copy or unpack the file again$"),
            reading.decoding(tmp_path / "a.bin", OwnError, "words"),
        ):
            raise error
    with (
        pytest.raises(OwnError, match=r"^as it was$"),
        reading.decoding(tmp_path / "a.bin", OwnError, "words"),
    ):
        raise OwnError("as it was")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(OwnError, match=r"none: no such file$"):
        reading.read_bytes(tmp_path / "none", OwnError)
    with pytest.raises(OwnError, match="expected a file, got a folder"):
        reading.read_bytes(tmp_path, OwnError)
    with pytest.raises(OwnError, match="cannot be read: "):
        reading.read_bytes(tmp_path / ("a" * 300), OwnError)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(OwnError, match=r"a\.txt: expected UTF-8 text, got .*0xff"):
        reading.read_text(tmp_path / "a.txt", OwnError)


def test_a_file_may_ask_for_what_is_usual_or_a_multiple_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"a")
    reading.require_room(path, OwnError, reading.USUAL)
    with pytest.raises(OwnError, match=r"a\.bin: expected what a file of 1 bytes may hold, got one that asks for"):
        reading.require_room(path, OwnError, reading.USUAL + 1)
    monkeypatch.setattr(reading, "USUAL", 50)
    path.write_bytes(bytes(10))
    reading.require_room(path, OwnError, 10 * reading.RATIO)
    with pytest.raises(OwnError, match=r"a\.bin: expected what a file of 10 bytes may hold"):
        reading.require_room(path, OwnError, 10 * reading.RATIO + 1)


def test_the_header_of_an_array_is_held_against_the_files_length() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6, dtype=np.int32).reshape(2, 3))
    data = buffer.getvalue()
    found = npy.header(data, len(data))
    assert (found.shape, found.dtype, found.fortran, found.offset) == ((2, 3), np.int32, False, len(data) - 24)
    for length in (len(data) - 1, len(data) + 1):
        with pytest.raises(ValueError, match=r"int32 of shape \(2, 3\), which \d+ bytes do not hold"):
            npy.header(data, length)
    longest = b"\x93NUMPY\x03\x00" + (2**31).to_bytes(4, "little") + data[10:]
    with pytest.raises(ValueError, match="expected 2147483648 bytes"):
        npy.header(longest, len(longest))


@dataclass(frozen=True)
class Sizes:
    """A configuration."""

    sizes: tuple[int, ...]


@pytest.mark.parametrize("text", ["sizes: &a\n  - *a\n", f"sizes: [0x{'f' * 5000}]", '{"sizes": ["\\ud800"]}', ""])
def test_a_configuration_of_any_text_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml: "):
        config.load(Sizes, path)


@pytest.mark.parametrize("kind", [[], {}, None, 1, "anderson "])
def test_a_kind_of_any_type_is_refused_by_its_key(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"solver": {"kind": kind}, "stop": {"max_steps": 3}}))
    with pytest.raises(ConfigError, match=r"config\.json: solver\.kind"):
        config.load(LayerConfig, path)


@pytest.mark.parametrize("content", [b"[]", b'{"root": 3}', b"\xff", b'{"root": "a\\u0000b"}', b"[" * 5000])
def test_a_manifest_of_anything_else_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(LayoutError, match=r"manifest\.json: expected"):
        released.located(tmp_path)


@pytest.mark.parametrize("content", [b"a,b\n1\n", b"\xff,b\n", b'a\n"1\n', b"a,a\n1,2\n", b"a\n" + b"b" * 200_000])
def test_a_table_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ResultsError, match=r"table\.csv"):
        results.read_rows(tmp_path / "table.csv")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"epe": "3"}', b'{"epe": NaN}', b'{"a": {"b": null}}', b"\xff"])
def test_metrics_that_are_no_numbers_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(ResultsError, match=r"metrics\.json: expected a mapping of names to numbers"):
        results.read_metrics(tmp_path / "metrics.json")


def test_metrics_may_be_in_mappings_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"epe": 1, "by": {"3": {"cold": 0.5}}}')
    assert results.read_metrics(tmp_path / "metrics.json") == {"epe": 1, "by": {"3": {"cold": 0.5}}}


@dataclass(frozen=True)
class Ratio:
    """A configuration whose own check divides."""

    whole: float
    part: float

    def __post_init__(self) -> None:
        if int(self.whole * 1e300) / self.part < 1:
            raise ValueError("the part must be the smaller one")


@pytest.mark.parametrize(("whole", "part"), [(1.0, 0.0), (1e300, 1.0)])
def test_numbers_that_a_configurations_own_check_cannot_compute_with_are_refused(
    tmp_path: Path, whole: float, part: float
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps({"whole": whole, "part": part}))
    with pytest.raises(ConfigError, match=r"params\.yaml: the document: numbers out of range: "):
        config.load(Ratio, path)
