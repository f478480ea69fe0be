"""Reads torch.save files after checking all sizes in them against the file.

`torch.load(weights_only=True)` runs no code from a file, but trusts every size in it: a tensor may be larger than its
storage, which then grows, and a storage larger than the file. It does not verify checksums either.
"""

import builtins
import io
import math
import pickle
import struct
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import torch

from deq_core.experiment.errors import CheckpointError
from deq_core.experiment.reading import USUAL, told

WIDTHS = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Untyped", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float", "QInt32"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
"""Bytes per element of each kind of storage."""
ACTING = frozenset(
    {"asyncio", "code", "codeop", "commands", "ctypes", "http", "importlib", "multiprocessing"}
) | frozenset(
    {"os", "pdb", "pip", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "urllib", "webbrowser"}
)
"""Modules whose functions act on the system. A malicious pickle may call them; no network needs them."""
LEGACY = 4
"""Number of pickles at the start of a file of torch before 1.6: two magic numbers, the system and the content."""
MAGIC = 0x1950A86A20F9469CFC6C


def load(data: bytes, path: Path, *, what: str, remedy: str) -> Any:
    """The content of a torch.save file, with tensors on the CPU; no code in it is run.

    Args:
        data: bytes of the file.
        path: the file, for messages.
        what: expected content, for messages.
        remedy: advice in messages.

    Raises:
        CheckpointError: the file is damaged, has tensors larger than their stored data, or would run code.
        ForeignError: the file holds more than tensors, numbers, strings and containers of them.
    """
    try:
        file = checked(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols other than 2
            return torch.load(file, map_location="cpu", weights_only=True)
    except PlantedError as error:
        raise CheckpointError(
            f"{path}: would call {error} when it is opened, which no checkpoint needs: the file was made to run code. "
            "Nothing was run here. Delete it, do not open it with another program, and tell whoever you got it from"
        ) from error
    except ForeignError:
        raise
    except SizeError as error:
        raise CheckpointError(f"{path}: not {what}: {error}; {remedy}") from error
    except Exception as error:  # torch.load raises nearly anything if the bytes are not a pickle
        raise CheckpointError(
            f"{path}: not {what}, but {len(data)} bytes that begin with {data[:16]!r}; {remedy} ({told(error)})"
        ) from error


class ForeignError(ValueError):
    """The pickle holds an object of a foreign class, which the message names."""


class PlantedError(ForeignError):
    """The pickle calls a function that acts on the system, which the message names."""


class SizeError(ValueError):
    """A size in the file contradicts its content."""


def checked(data: bytes) -> io.BytesIO:
    """The torch.save file `data`, for torch.load, once its sizes and checksums are verified.

    Raises:
        SizeError: a size or checksum is wrong.
        ForeignError: the file holds other objects.
        Exception: of any type, if the data are not a torch.save file.
    """
    if not data.startswith(b"PK"):
        file = io.BytesIO(data)
        sizes = Sizes(file)
        if sizes.load() != MAGIC:
            raise SizeError("it does not begin as torch.save begins a file")
        for _ in range(LEGACY - 1):
            sizes = Sizes(file)
            sizes.load()
        require_room(sizes, len(data), stored=len(data) - file.tell())
        return io.BytesIO(data)
    members = members_of(data)
    (content,) = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    sizes = Sizes(io.BytesIO(members[content]))
    sizes.load()
    for key, size in sizes.storages.items():
        there = len(members[f"{content.removesuffix('data.pkl')}data/{key}"])
        if there != size:
            raise SizeError(f"it announces a tensor storage of {size} bytes, and holds {there}")
    require_room(sizes, len(data), stored=len(data))
    again = io.BytesIO()  # written anew: torch's zip reader uses other header fields than zipfile, which checked these
    with zipfile.ZipFile(again, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    again.seek(0)
    return again


def members_of(data: bytes) -> dict[str, memoryview]:
    """Contents of the members of a zip by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = archive.infolist()
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in found)
    if packed or sum(member.file_size for member in found) > len(data):
        raise SizeError("its members are compressed, duplicated or overlapping")
    if any(member.CRC for member in found):  # all zero if torch was told to write none
        for member in found:
            if zlib.crc32(stored(data, member)) != member.CRC:
                raise SizeError(f"{member.filename} does not match its checksum")
    return {member.filename: stored(data, member) for member in found}


def stored(data: bytes, member: zipfile.ZipInfo) -> memoryview:
    """The content of an uncompressed member of a zip."""
    name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
    start = member.header_offset + 30 + name + extra
    return memoryview(data)[start : start + member.file_size]


def require_room(sizes: "Sizes", length: int, *, stored: int) -> None:
    """Raises SizeError if storages exceed the stored bytes, or tensors (which may share storages) a usual size."""
    if (total := sum(sizes.storages.values())) > stored:
        raise SizeError(f"it announces {total} bytes of tensors, and holds {stored}")
    if sizes.tensors > max(length, USUAL):
        raise SizeError(f"its tensors are of {sizes.tensors} bytes, which {length} cannot hold")


class Sizes(pickle._Unpickler):
    """Walks a torch.save pickle without its tensors; records the bytes of tensors, and of storages by key.

    It extends Python's unpickler, because the one in C allocates memory of sizes named in the pickle. Opcodes that do
    so here, or that make objects unlike torch.save's, are removed. Nothing in the pickle is called.
    """

    dispatch: ClassVar = {
        code: does
        for code, does in pickle._Unpickler.dispatch.items()
        if bytes([code]) not in (pickle.BYTEARRAY8, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4)
    }

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, int] = {}
        self.tensors = 0

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a class or function that a torch.save file may name."""
        match module, name:
            case "collections", "OrderedDict" | "Counter":
                return {"OrderedDict": OrderedDict, "Counter": Counter}[name]
            case "torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3":
                return self.tensor
            case "torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state":
                return parameter
            case "torch" | "torch.storage", _ if name.endswith("Storage") and name.removesuffix("Storage") in WIDTHS:
                return Kind(WIDTHS[name.removesuffix("Storage")])
            case "torch", _ if isinstance(getattr(torch, name, None), torch.dtype):
                return Kind(getattr(torch, name).itemsize)
            case "torch", "Size" | "device":
                return plain
            case "builtins" | "__builtin__", "set" | "complex":
                return plain
            case ("torch.serialization", "_get_layout") | ("_codecs", "encode"):
                return plain
            case _:
                raise (PlantedError if acts(module, name) else ForeignError)(f"{module}.{name}")

    def load_inst(self) -> None:
        """Refuses objects in the style of Python 1, which torch.save never writes."""
        self.find_class(*(self.readline()[:-1].decode("ascii") for _ in range(2)))  # pyright: ignore[reportAttributeAccessIssue]  untyped
        raise SizeError("an object is not stored as torch.save stores it")

    dispatch[pickle.INST[0]] = load_inst  # pyright: ignore[reportArgumentType]  for this class alone

    def persistent_load(self, pid: Any) -> "Storage":
        """The stand-in for a storage, whose content is elsewhere in the file."""
        word, kind, key, _, count, *_ = pid
        plain_key = isinstance(key, str | int)
        if word != "storage" or not plain_key or not isinstance(kind, Kind) or type(count) is not int or count < 0:
            raise SizeError("a storage is not stored as torch.save stores it")
        size = count * kind.width
        if self.storages.setdefault(str(key), size) != size:
            raise SizeError("a storage has two sizes")
        return Storage(size, kind.width)

    def tensor(self, storage: "Storage", offset: int, shape: Any, strides: Any, *more: Any) -> "Storage":
        """The stand-in for a tensor; raises SizeError if its storage does not hold every element."""
        width = next((each.width for each in more if type(each) is Kind), storage.width)
        numbers = (offset, *shape, *strides)
        if any(type(number) is not int or number < 0 for number in numbers) or len(shape) != len(strides):
            raise SizeError("a tensor is not stored as torch.save stores it")
        count = math.prod(shape)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if count and (last + 1) * width > storage.size:
            raise SizeError(f"a tensor of {count} elements is in a storage of {storage.size} bytes")
        self.tensors += count * width
        return storage


def acts(module: str, name: str) -> bool:
    """Whether calling this function would act on the system."""
    if module in ("builtins", "__builtin__"):  # the latter is Python 2's
        found = getattr(builtins, name, None)
        harmless = name == "getattr" or isinstance(found, type)  # pickles of methods and enum members need them
        return (callable(found) and not harmless) or name in ("execfile", "file", "apply")
    return module.partition(".")[0] in ACTING


class Kind:
    """The element type of a storage."""

    def __init__(self, width: int) -> None:
        self.width = width


class Storage(Kind):
    """Size of a storage in bytes, and of its elements."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(width)
        self.size = size


def parameter(data: Any, *_: Any) -> Any:
    """Stand-in for a parameter."""
    return data


def plain(*_: Any) -> None:
    """Stand-in for objects without significant memory."""
