"""Where shards lie: a folder, or an address that fsspec knows, such as ``s3://bucket/set``."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muhdi.errors import DataError, MuhdiError
from muhdi.files import write_bytes, writing

_EXTRA = "pip install 'muhdi[stream]', or the package that fsspec names for it"
_CREDENTIALS = ("credential", "accessdenied", "forbidden", "unauthorized", "signature")
"""Parts of the names and messages of errors that say who is asking is not known, or not allowed."""


def is_address(root: str) -> bool:
    """Whether it is an address and no path."""
    return "://" in root


class Storage:
    """Files below a folder or an address; nothing is open between two calls.

    Attributes:
        address: of it, without a slash at its end.
        folder: where it is a folder of this machine; None elsewhere.

    Args:
        address: a path, or an address that fsspec knows.
    """

    def __init__(self, address: str) -> None:
        local = address.removeprefix("file://")
        self.address = address.rstrip("/") or address
        self.folder = None if is_address(local) else Path(local)

    def below(self, name: str) -> Storage:
        """A folder in it."""
        return Storage(f"{self.address}/{name}")

    def __str__(self) -> str:
        return self.address if self.folder is None else str(self.folder)

    def read(self, name: str) -> bytes | None:
        """The contents of a file; None if there is none.

        Raises:
            DataError: it cannot be reached or read.
        """
        with self._reaching(name):
            try:
                if self.folder is not None:
                    return (self.folder / name).read_bytes()
                files, path = self._opened()
                contents: bytes = files.cat_file(f"{path}/{name}")
                return contents
            except (FileNotFoundError, NotADirectoryError):
                return None

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file of an address to this machine.

        Raises:
            DataError: it is missing, or cannot be reached or read.
            MuhdiError: this machine's disk is full, or refuses.
        """
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with self._reaching(name):
            try:
                files, below = self._opened()
                files.get_file(f"{below}/{name}", str(path))
            except FileNotFoundError:
                raise DataError(
                    f"{self}/{name}: the file is missing; write the shards once more"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                with writing(path):
                    raise

    def write(self, name: str, data: bytes) -> None:
        """Write a file: whole, or not at all.

        Raises:
            MuhdiError: it cannot be written.
        """
        if self.folder is not None:
            write_bytes(self.folder / name, data)
            return
        with self._reaching(name):
            files, path = self._opened()
            files.makedirs(path, exist_ok=True)
            files.pipe_file(f"{path}/{name}", data)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none.

        Raises:
            DataError: it cannot be reached.
        """
        with self._reaching(name):
            try:
                if self.folder is not None:
                    return (self.folder / name).stat().st_size
                files, path = self._opened()
                files.invalidate_cache()
                size: int = files.size(f"{path}/{name}")
                return size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            DataError: it cannot be removed.
        """
        with self._reaching(name):
            if self.folder is not None:
                (self.folder / name).unlink(missing_ok=True)
                return
            files, path = self._opened()
            files.rm_file(f"{path}/{name}")

    def _opened(self) -> tuple[Any, str]:
        """The file system of fsspec and the path in it.

        fsspec keeps one for each process: nothing is shared with one that this one started.
        """
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise DataError(f"{self}: addresses need fsspec; {_EXTRA}") from None
        try:
            files, path = url_to_fs(self.address)
        except ImportError as error:
            raise DataError(f"{self}: {error}; {_EXTRA}") from None
        except ValueError as error:
            raise DataError(
                f"{self}: {error}; correct the address, or give a folder's path"
            ) from None
        return files, path

    @contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Turn whatever a store's package raises into one line."""
        try:
            yield
        except (MuhdiError, FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:  # of many packages, which share no class
            raise DataError(f"{self}/{name}: {_reason(error, self.folder)}") from None


def _reason(error: Exception, folder: Path | None) -> str:
    """What went wrong, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    said = f"{type(error).__name__} {text}".lower().replace(" ", "")
    if folder is not None:
        said = getattr(error, "strerror", None) or text
        return f"cannot be read: {said}; correct the folder's permissions"
    if isinstance(error, PermissionError) or any(word in said for word in _CREDENTIALS):
        return (
            f"access is refused ({text}); give credentials where the store's package looks for"
            " them, such as environment variables (docs/shards.md)"
        )
    return f"cannot be reached: {text}; correct the address, or try again with a connection"


def default_kept() -> Path:
    """Where fetched shards are kept if nobody says where."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "muhdi" / "shards"
