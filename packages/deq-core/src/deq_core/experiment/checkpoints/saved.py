"""What torch.save wrote, read only once all its sizes are known to be those of the file.

`torch.load(weights_only=True)` runs no code from a file, but takes its word for every size: a tensor may be larger than
its storage, which then grows, and a storage larger than the file. Nor does it look at the checksums of a file.
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
"""Bytes of an element of each kind of storage."""
ACTING = frozenset(
    {"asyncio", "code", "codeop", "commands", "ctypes", "http", "importlib", "multiprocessing"}
) | frozenset(
    {"os", "pdb", "pip", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "urllib", "webbrowser"}
)
"""Modules whose functions act on the computer: no network needs them, and a pickle may have them called."""
LEGACY = 4
"""Pickles at the beginning of a file of torch before 1.6: two numbers that mark it, the system, and the content."""
MAGIC = 0x1950A86A20F9469CFC6C


def load(data: bytes, path: Path, *, what: str, remedy: str) -> Any:
    """What torch.save wrote as `data`, tensors on the CPU; runs no code from it.

    Args:
        data: the file's content.
        path: the file, for messages.
        what: it should be, for messages.
        remedy: what to do where it is not.

    Raises:
        CheckpointError: it is damaged, has tensors that are larger than what the file has of them, or would run code.
        ForeignError: it holds more than tensors, numbers, strings and containers of them.
    """
    try:
        file = checked(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles of another protocol, which asks the reader to tell torch
            return torch.load(file, map_location="cpu", weights_only=True)
    except PlantedError as error:
        raise CheckpointError(
            f"{path}: would call {error} when it is opened, which no network needs: this is a file made to run code, "
            "of which nothing was run here; delete it, open it with nothing else, and tell those that it came from"
        ) from error
    except ForeignError:
        raise
    except SizeError as error:
        raise CheckpointError(f"{path}: not {what}: {error}; {remedy}") from error
    except Exception as error:  # on bytes that are no pickle torch.load raises nearly anything
        raise CheckpointError(
            f"{path}: not {what}, but {len(data)} bytes that begin with {data[:16]!r}; {remedy} ({told(error)})"
        ) from error


class ForeignError(ValueError):
    """A pickle with objects that are no tensors; the message is their class."""


class PlantedError(ForeignError):
    """A pickle that has a function called that acts on the computer; the message is its name."""


class SizeError(ValueError):
    """A file whose sizes are not those of what it holds."""


def checked(data: bytes) -> io.BytesIO:
    """What torch.save wrote as `data`, for torch.load: all of it is there, as large as it says, and has its checksums.

    Raises:
        SizeError: it is not, of which the message is what.
        ForeignError: it holds other objects.
        Exception: of any kind, where it is no such file.
    """
    if not data.startswith(b"PK"):
        file = io.BytesIO(data)
        sizes = Sizes(file)
        if sizes.load() != MAGIC:
            raise SizeError("they do not begin as torch.save has it")
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
            raise SizeError(f"tensors of {size} bytes are announced where there are {there}")
    require_room(sizes, len(data), stored=len(data))
    again = io.BytesIO()  # torch has another reader of zips, which goes by other fields than the one that checked this
    with zipfile.ZipFile(again, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    again.seek(0)
    return again


def members_of(data: bytes) -> dict[str, memoryview]:
    """The members of a zip by their names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = archive.infolist()
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in found)
    if packed or sum(member.file_size for member in found) > len(data):
        raise SizeError("its members are packed, twice there, or overlap")
    if any(member.CRC for member in found):  # torch may be told to write none, and then has zeros
        for member in found:
            if zlib.crc32(stored(data, member)) != member.CRC:
                raise SizeError(f"{member.filename} has another checksum than was written")
    return {member.filename: stored(data, member) for member in found}


def stored(data: bytes, member: zipfile.ZipInfo) -> memoryview:
    """The content of a member of a zip that is not packed."""
    name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
    start = member.header_offset + 30 + name + extra
    return memoryview(data)[start : start + member.file_size]


def require_room(sizes: "Sizes", length: int, *, stored: int) -> None:
    """Checks that storages are no larger than what is stored, nor tensors, which may repeat it, than what is usual."""
    if (total := sum(sizes.storages.values())) > stored:
        raise SizeError(f"{total} bytes of tensors are announced where there are {stored}")
    if sizes.tensors > max(length, USUAL):
        raise SizeError(f"its tensors are of {sizes.tensors} bytes, which {length} cannot hold")


class Sizes(pickle._Unpickler):
    """Goes through a pickle of torch.save without its tensors; notes the bytes of these, and of storages by their keys.

    It is the unpickler in Python, since that in C takes memory for numbers that a pickle names; what of the former
    does so too, or makes objects in other ways than torch.save's, is left out. Nothing from the pickle is called.
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
        """What stands for a class or function that torch.save writes the name of."""
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
        """Refuses an object that is made in the way of Python 1: torch.save makes none."""
        self.find_class(*(self.readline()[:-1].decode("ascii") for _ in range(2)))  # pyright: ignore[reportAttributeAccessIssue]  untyped
        raise SizeError("an object is made otherwise than torch.save does")

    dispatch[pickle.INST[0]] = load_inst  # pyright: ignore[reportArgumentType]  of this class alone

    def persistent_load(self, pid: Any) -> "Storage":
        """A storage, of which the file has the content elsewhere."""
        word, kind, key, _, count, *_ = pid
        plain_key = isinstance(key, str | int)
        if word != "storage" or not plain_key or not isinstance(kind, Kind) or type(count) is not int or count < 0:
            raise SizeError("a storage is written otherwise than torch.save does")
        size = count * kind.width
        if self.storages.setdefault(str(key), size) != size:
            raise SizeError("a storage has two sizes")
        return Storage(size, kind.width)

    def tensor(self, storage: "Storage", offset: int, shape: Any, strides: Any, *more: Any) -> "Storage":
        """Stands for a tensor; raises SizeError where its storage does not hold every element."""
        width = next((each.width for each in more if type(each) is Kind), storage.width)
        numbers = (offset, *shape, *strides)
        if any(type(number) is not int or number < 0 for number in numbers) or len(shape) != len(strides):
            raise SizeError("a tensor is written otherwise than torch.save does")
        count = math.prod(shape)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if count and (last + 1) * width > storage.size:
            raise SizeError(f"a tensor of {count} elements is in a storage of {storage.size} bytes")
        self.tensors += count * width
        return storage


def acts(module: str, name: str) -> bool:
    """Whether what a pickle names acts on the computer when it is called."""
    if module in ("builtins", "__builtin__"):  # the latter is Python 2's, which had more of them
        found = getattr(builtins, name, None)
        harmless = name == "getattr" or isinstance(found, type)  # how methods and members of enumerations are written
        return (callable(found) and not harmless) or name in ("execfile", "file", "apply")
    return module.partition(".")[0] in ACTING


class Kind:
    """A type of elements."""

    def __init__(self, width: int) -> None:
        self.width = width


class Storage(Kind):
    """The place of a tensor's elements."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(width)
        self.size = size


def parameter(data: Any, *_: Any) -> Any:
    """Stands for a parameter."""
    return data


def plain(*_: Any) -> None:
    """Stands for what takes no memory of its own."""
