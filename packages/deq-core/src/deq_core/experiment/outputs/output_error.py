"""The error of an output that cannot be written, with its path, the reason and a remedy."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from deq_core.experiment.errors import UserError

_REMEDIES = {
    errno.ENOENT: "the folder does not exist and cannot be made: choose another folder",
    errno.ENOSPC: "the disk is full: free space there or choose another folder",
    errno.EDQUOT: "your disk quota is used up: free space there or choose another folder",
    errno.EFBIG: "the file would pass the size limit of this process or file system: see `ulimit -f`",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "this user may not write there: change the folder's owner or mode, or choose another folder",
    errno.EPERM: "this user may not write there: change the folder's owner or mode, or choose another folder",
    errno.ENOTDIR: "a parent of it is a file: remove that file or choose another folder",
    errno.EEXIST: "a file is where a folder is needed: remove that file or choose another folder",
    errno.EBUSY: "something is mounted there, or the system uses it: choose a new name in it, or another folder",
    errno.EISDIR: "a folder is where a file is needed: remove that folder or choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
    errno.EIO: "the disk reports an input/output error: check it, or choose another folder",
}


class OutputError(UserError, OSError):
    """An output could not be written; the message names its path and the remedy."""


@contextlib.contextmanager
def explained(out: Path, inside: Path | None = None) -> Iterator[None]:
    """Turns an `OSError` about writing `out` in the block into an `OutputError`.

    Args:
        out: the path named in the message.
        inside: folder that the block writes to. Errors about files outside are about inputs and pass unchanged. Errors
            that name no file, such as a full disk, are about the output, unless a file is missing. None: the block has
            no inputs.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        named = error.filename if isinstance(error.filename, str | os.PathLike) else None
        named_here = error.errno != errno.ENOENT if named is None else Path(named).is_relative_to(inside or "")
        about_input = inside is not None and not named_here
        if remedy is None or about_input:
            raise
        hidden = named is not None and Path(named).name.startswith(f".{out.name}.")  # unknown to the user
        about = f": {named}" if named and not hidden else ""
        fault = OutputError(f"cannot write {out}: {remedy} ({error.strerror}{about})")
        fault.errno = error.errno
        raise fault from error
