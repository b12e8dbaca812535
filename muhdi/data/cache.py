"""A cache of decoded and resized samples, and of what was counted in them, on the disk.

Bit for bit what decoding gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import safetensors.numpy

Arrays = dict[str, npt.NDArray[Any]]

RESERVE = 2**30
"""Bytes of the disk that stay free."""
_VERSION = ["muhdi 3", PIL.__version__]
"""Part of every key: another decoder, or another way of using it, may give other pixels."""


class SampleCache:
    """Arrays by a key that holds all that they depend on.

    Several processes may use one folder at a time.

    A file is written under a temporary name and then renamed, so that nobody ever sees a part of
    one; what was cut short by a crash of the machine does not parse, and counts as missing. When
    the disk is nearly full nothing more is added.

    Attributes:
        read_only: whether nothing is added.

    Args:
        folder: created when the first sample is put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read_only = False

    def path(self, key: Any) -> Path:
        """The file of a key, which is anything that JSON can hold."""
        digest = hashlib.sha256(json.dumps([_VERSION, key]).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"

    def get(self, key: Any) -> tuple[Arrays, dict[str, int]] | None:
        """The arrays and counts of a key, or None."""
        path = self.path(key)
        try:
            data = path.read_bytes()
            arrays = safetensors.numpy.load(data)
            # safetensors returns no metadata from bytes: the header is JSON after its own length.
            length = int.from_bytes(data[:8], "little")
            notes = json.loads(data[8 : 8 + length]).get("__metadata__", {})
            return arrays, json.loads(notes.get("counts", "{}"))
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
            return None

    def put(self, key: Any, arrays: Arrays, counts: dict[str, int]) -> bool:
        """Remember arrays.

        Returns:
            False if there is no room for them, or the disk refuses, or the cache is read only;
            nothing is written then.
        """
        if self.read_only:
            return False
        path = self.path(key)
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        data = safetensors.numpy.save(contiguous, {"counts": json.dumps(counts)})
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.free() < len(data):
                return False
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            return False
        return True

    def free(self) -> int:
        """Bytes that may still be written."""
        existing = self.folder
        while not existing.exists():
            existing = existing.parent
        return shutil.disk_usage(existing).free - RESERVE
