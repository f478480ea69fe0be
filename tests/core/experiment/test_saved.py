"""A file of torch.save is read only where all that it announces is in it: no small file takes all memory."""

import hashlib
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, load_saved, restored


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def load_state_of(path: Path) -> Any:
    """As `load_state` does with a file that has the digest of its content behind it."""
    path.write_bytes(path.read_bytes() + hashlib.sha256(path.read_bytes()).digest())
    return checkpoint.load_state(path)


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    shared = torch.arange(6.0)
    return {"whole": torch.randn(3, 4), "half": torch.ones(2, dtype=torch.float16), "view": shared[2:5], "all": shared}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_what_was_saved_comes_back(tmp_path: Path, kind: type, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(saved({"state": kind(state()), "step": 3}, _use_new_zipfile_serialization=zipped))
    found = load_saved(path)
    assert found["step"] == 3
    assert all(torch.equal(found["state"][name], value) for name, value in state().items())


def test_parameters_and_other_plain_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    plain = {
        "size": torch.Size([2]),
        "kind": torch.bfloat16,
        "set": {1},
        "device": torch.device("cpu"),
        "z": 1j,
        "b": b"\xff",
    }
    path.write_bytes(saved(plain | {"weight": nn.Parameter(torch.ones(2))}))
    found = load_saved(path)
    assert torch.equal(found.pop("weight"), torch.ones(2))
    assert found == plain


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("open('planted', 'w')",)


@pytest.mark.parametrize(
    ("data", "called"),
    [
        (saved({"weight": torch.ones(2), "more": Planted()}), "__builtin__.eval"),
        (saved([Planted()], _use_new_zipfile_serialization=False), "__builtin__.eval"),
        (b"cposix\nsystem\n(S'touch planted'\ntR.", "posix.system"),
        (b"(S'touch planted'\nios\nsystem\n.", "os.system"),
        (b"c__builtin__\nexecfile\n(S'planted'\ntR.", "__builtin__.execfile"),
        (b"csubprocess\nPopen\n(S'touch planted'\ntR.", "subprocess.Popen"),
    ],
)
@pytest.mark.parametrize("load", [load_saved, load_state_of])
def test_a_file_that_would_run_code_is_told_for_what_it_is_and_runs_none(
    load: Callable[[Path], Any], data: bytes, called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"a\.pth: would call {called} when it is opened.*Delete it"):
        load(Path("a.pth"))
    assert not Path("planted").exists()


def test_a_wrong_bit_in_a_tensor_is_told_by_the_files_checksum(tmp_path: Path) -> None:
    data = bytearray(saved(state()))
    data[bytes(data).index(state()["whole"].numpy().tobytes()) + 7] ^= 1
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"a\.pth: not a whole file of tensors .*: .* does not match its checksum"
    ):
        load_saved(tmp_path / "a.pth")


def test_a_file_that_was_written_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        (tmp_path / "a.pth").write_bytes(saved(state()))
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_saved(tmp_path / "a.pth")["whole"], state()["whole"])


def test_torch_reads_what_was_checked_whatever_else_a_zip_says_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    data = bytearray(saved(state()))
    place = data.rindex(b"PK\1\2", 0, data.rindex(b"data/0"))
    data[place + 38] = 0x10  # calls a tensor a folder: torch then gives what was in memory before
    path.write_bytes(data)
    assert all(torch.equal(load_saved(path)[name], value) for name, value in state().items())


def repacked(data: bytes, change: Any, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The zip `data` with its pickle changed, and checksums that fit."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", compression) as target:
        for member in source.infolist():
            content = source.read(member)
            target.writestr(member.filename, change(content) if member.filename.endswith("data.pkl") else content)
    return out.getvalue()


def shape_grown(content: bytes) -> bytes:
    """The pickle of a tensor of 3 x 5 whose first side is 2 ** 30."""
    return content.replace(b"K\3K\5", b"J" + struct.pack("<i", 2**30) + b"K\5", 1)


def legacy_of(count: int) -> bytes:
    """A file of old torch that announces a storage of `count` floats, and has none."""
    data = saved({"a": torch.ones(259)}, _use_new_zipfile_serialization=False)
    return data.replace(b"M\3\1", b"J" + struct.pack("<i", count))


BOMBS = {
    "a number repeated": saved({"a": torch.zeros(1).expand(100_000, 100_000)}),
    "a tensor larger than its storage": repacked(saved({"a": torch.ones(3, 5)}), shape_grown),
    "a storage of an old file that is not there": legacy_of(2**31 - 1),
    "members that are packed": repacked(saved({"a": torch.zeros(1 << 20)}), bytes, zipfile.ZIP_DEFLATED),
    "an array of bytes": pickle.dumps(bytearray(4)).replace(struct.pack("<Q", 4), struct.pack("<Q", 1 << 40)),
    "a constructor that allocates": b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
    "a bytearray of a length": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
}


@pytest.mark.parametrize("what", BOMBS)
def test_files_that_ask_for_more_than_they_hold_are_refused_before_memory_is_taken(tmp_path: Path, what: str) -> None:
    path = tmp_path / "bomb.pth"
    path.write_bytes(BOMBS[what])
    with pytest.raises(CheckpointError, match=r"bomb\.pth: ") as caught:
        load_saved(path)
    assert not isinstance(caught.value.__cause__, MemoryError)


def test_python_objects_are_named_and_not_made(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(saved(nn.Linear(2, 2)))
    with pytest.raises(CheckpointError, match=r"a\.pth: expected tensors alone, got .* instead of torch\.nn"):
        load_saved(tmp_path / "a.pth")


class Wide(nn.Module):
    """A network as large as its configuration says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)
        self.norm = nn.BatchNorm1d(2)
        self.scale = nn.Parameter(0.5 * torch.randn(3))


def test_a_network_takes_memory_and_random_numbers_only_once_its_shapes_fit() -> None:
    torch.manual_seed(1)
    small = Wide(3)
    before = torch.get_rng_state()
    found = restored(lambda: Wide(3), small.state_dict())
    assert all(torch.equal(value, small.state_dict()[name]) for name, value in found.state_dict().items())
    assert found.layer.weight.requires_grad
    assert not found.training
    with pytest.raises(CheckpointError, match=r"misshapen layer\.weight: expected \(2, 100000000000\), got \(2, 3\)"):
        restored(lambda: Wide(10**11), small.state_dict())
    with pytest.raises(CheckpointError, match="no network has these sizes"):
        restored(lambda: Wide(-1), small.state_dict())
    with pytest.raises(CheckpointError, match="many more tensors than the checkpoint has"):
        restored(lambda: nn.Sequential(*(nn.Linear(1, 1) for _ in range(10**6))), small.state_dict())
    assert torch.equal(torch.get_rng_state(), before)


def test_whole_numbers_are_no_weights() -> None:
    state = {name: value.int() for name, value in Wide(3).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"mistyped layer\.weight: expected torch\.float32, got torch\.int32"):
        restored(lambda: Wide(3), state)


def test_tensors_in_either_format_lose_the_names_of_wrappers(tmp_path: Path) -> None:
    model = nn.DataParallel(Wide(3))
    checkpoint.save(tmp_path / "a.safetensors", model, {})
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert checkpoint.load_tensors(tmp_path / name).keys() == Wide(3).state_dict().keys()
