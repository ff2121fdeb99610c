"""Files that appear whole or not at all, and folders with one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from img2prompt.errors import OutputError


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that its name holds the old bytes or all the new ones, whenever the machine stops.

    Raises:
        OSError: as the system says; no half file is left.
    """
    with fresh_file(path) as fresh:
        fresh.write_bytes(data)


@contextlib.contextmanager
def fresh_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, to be written and closed inside the context; at its end it takes the name of `path`.

    Raises:
        OSError: as the system says; no half file is left. Likewise where something else than a file has that name.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a folder is refused by the system itself
        raise OSError(errno.EINVAL, "is a device or pipe, which a file would replace", str(path))
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    fresh = Path(name)
    try:
        yield fresh
        fresh.chmod(0o644)  # mkstemp gives the file to its maker alone
        with fresh.open("r+b") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if sys.platform != "win32":  # the new name is in the folder; that has to reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def sole_writer(root: Path) -> Iterator[None]:
    """Makes a folder and keeps every other writer out; the system lets go of the lock when this process ends, however
    it ends.

    Raises:
        OutputError: the folder cannot be made or written, or another process is writing there.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("a+b")
    except OSError as error:
        raise OutputError(f"{root}: {error.strerror or error}; choose a folder that can be written") from error
    with lock as file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise OutputError(
                f"{root}: another process is writing this data set; wait for it or choose another folder"
            ) from None
        yield
