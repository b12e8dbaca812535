"""Shards of an address that are kept on this machine, up to a limit."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from muhdi.data.shards.index import Shard
from muhdi.data.shards.storage import Storage
from muhdi.errors import DataError, MuhdiError
from muhdi.files import TEMPORARY, sha256, writing


def check_shard(path: Path, shard: Shard, where: str) -> None:
    """Refuse a file that is not the shard which was written.

    Args:
        path: of the file.
        shard: what the index says.
        where: what messages call it.

    Raises:
        DataError: it is missing, cut, or has another checksum.
    """
    advice = "write it once more: delete index.json beside it, and repeat muhdi prepare --shards"
    try:
        size = path.stat().st_size
        if size != shard.chunk_bytes:
            raise DataError(
                f"{where}: the shard is cut: {size} bytes instead of {shard.chunk_bytes}; {advice}"
            )
        if sha256(path) != shard.sha256:
            raise DataError(f"{where}: the shard is damaged: its checksum is wrong; {advice}")
    except FileNotFoundError:
        raise DataError(f"{where}: the shard is missing; {advice}") from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror or error}") from None


class KeptShards:
    """Fetches shards, and keeps those that were used last.

    Any number of processes of a machine share a folder: a shard is fetched by one of them, under a
    temporary name, checked, and renamed; the others wait.

    Args:
        storage: where the shards lie.
        folder: where they are kept; created when the first one is fetched.
        limit: bytes that stay; the shard that was fetched last always does.
    """

    def __init__(self, storage: Storage, folder: Path, limit: int) -> None:
        self.storage = storage
        self.folder = folder
        self.limit = limit

    def has(self, shard: Shard) -> bool:
        """Whether a shard is here; it then counts as used."""
        path = self.folder / shard.filename
        with suppress(OSError):
            if path.stat().st_size == shard.chunk_bytes:
                os.utime(path)
                return True
        return False

    def fetch(self, shard: Shard, *, wait: bool = True) -> Path:
        """A shard's file on this machine; fetched if it is not there.

        Args:
            shard: which one.
            wait: for another process that fetches it; else it is left to that one.

        Raises:
            DataError: it is missing, cut or damaged, or cannot be reached.
            MuhdiError: the folder cannot be written.
        """
        path = self.folder / shard.filename
        if self.has(shard):
            return path
        with writing(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f".{shard.filename}.lock")
            try:
                lock.acquire(blocking=wait)
            except Timeout:
                return path
        try:
            if not self.has(shard):
                self._fetch(shard, path)
                self._make_room(path)
        finally:
            lock.release()
        return path

    def _fetch(self, shard: Shard, path: Path) -> None:
        """Fetch a shard while nobody else does."""
        # What a process left behind that was killed here.
        for left in self.folder.glob(f".{shard.filename}.*{TEMPORARY}"):
            with suppress(OSError):
                left.unlink()
        temporary = self.folder / f".{shard.filename}.{os.urandom(4).hex()}{TEMPORARY}"
        try:
            self.storage.fetch(shard.filename, temporary)
            check_shard(temporary, shard, f"{self.storage}/{shard.filename}")
            with writing(path):
                os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _make_room(self, newest: Path) -> None:
        """Remove the shards that were not used for the longest time, down to the limit."""
        found = []
        for path in self.folder.glob("*.bin"):
            with suppress(OSError):  # another process may have removed it
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit:
                break
            if path == newest:
                continue
            with suppress(OSError):  # open elsewhere, on systems that mind
                path.unlink()
                total -= size


class Ahead:
    """Fetches shards in the background, one after another, in this process.

    Args:
        kept: where they are put.
    """

    def __init__(self, kept: KeptShards) -> None:
        self._kept = kept
        self._asked: dict[str, None] = {}
        self._queue: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, shard: Shard) -> None:
        """Let a shard be fetched, unless it is here or was asked for."""
        if shard.filename in self._asked:
            return
        self._asked[shard.filename] = None
        self._queue.put(shard)

    def _work(self) -> None:
        while True:
            shard = self._queue.get()
            # A fault is met again, and reported, by whoever reads the shard.
            with suppress(MuhdiError):
                self._kept.fetch(shard, wait=False)
            self._asked.pop(shard.filename, None)
