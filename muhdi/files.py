"""Writing files so that a crash leaves either the old one or the new one."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muhdi.errors import MuhdiError

if TYPE_CHECKING:
    from PIL import Image

TEMPORARY = ".tmp"
"""Ending of the names of files that are being written."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an error of the system in writing ``path`` becomes a `MuhdiError`."""
    try:
        yield
    except OSError as error:
        room = error.errno in _NO_ROOM
        advice = "free some space" if room else "correct the folder's permissions"
        raise MuhdiError(
            f"{path}: cannot be written: {error.strerror or error}; {advice} or choose another"
            " folder"
        ) from None


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write to a temporary name next to ``path``, flush to the disk, rename.

    Raises:
        MuhdiError: it cannot be written, or ``path`` is a folder, a device or the like; what was
            there before stays.
    """
    check_target(path)
    # Not the number of the process, which in a container is the same every time.
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}{TEMPORARY}"
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a renaming last through a power failure, before anything older is removed."""
    with suppress(OSError):  # not every file system can
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def check_target(path: Path) -> None:
    """Refuse, before any work, a path at which no regular file can be written.

    Raises:
        MuhdiError: it is a folder, a device, a pipe or the like, or its folder cannot be made or
            written into.
    """
    try:
        special = path.exists() and not path.is_file()
    except (OSError, ValueError):  # names that the system refuses
        special = True
    if special or not path.name:
        raise MuhdiError(f"{path}: is not a regular file; choose another path")
    _check_folder(path, path.absolute().parent)


def check_folder_target(path: Path) -> None:
    """`check_target` for a folder.

    Raises:
        MuhdiError: it is a file, or cannot be made or written into.
    """
    if path.exists() and not path.is_dir():
        raise MuhdiError(f"{path}: is a file, not a folder; choose another name")
    _check_folder(path, path.absolute())


def _check_folder(path: Path, folder: Path) -> None:
    """Refuse a path whose ``folder`` is below a file, or must not be written into."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise MuhdiError(
            f"{path}: cannot be written: {folder} is not a folder; choose another path"
        )
    if not os.access(folder, os.W_OK):
        raise MuhdiError(
            f"{path}: cannot be written: {folder} may not be written into; correct the folder's"
            " permissions or choose another folder"
        )


def write_png(path: Path, image: Image.Image) -> None:
    """`write_bytes` of an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def write_text(path: Path, text: str) -> None:
    """`write_bytes`, in UTF-8."""
    # Names of files need not be UTF-8: bytes that are not are written as \xe9, as messages show.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, data: Any) -> None:
    """`write_text` of indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in a file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MuhdiError(f"{path}: the file is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise MuhdiError(f"{path}: cannot be read as JSON: {error}") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's contents, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    """The SHA-256 of bytes, as `sha256` of a file that holds them."""
    return hashlib.sha256(data).hexdigest()


def file_name(name: str) -> str:
    """Any name as a part of a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


LONGEST = 80
"""Characters of a part of a run's name."""


def short_name(name: str) -> str:
    """A name as it is, or of one over `LONGEST` the beginning and a digest of the whole."""
    if len(name) <= LONGEST:
        return name
    digest = sha256_of(name.encode())[:8]
    return f"{name[: LONGEST - len(digest) - 1]}-{digest}"
