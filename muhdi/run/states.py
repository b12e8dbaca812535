"""Training states: the last few of a run, each with a checksum.

A damaged one is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from muhdi.errors import RunError
from muhdi.files import write_bytes

State = dict[str, Any]

_MAGIC = b"muhdi state 2\n"
"""What a file begins with; the SHA-256 of all that follows the digest comes next."""
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size
_EARLIER = b"muhdi state 1\n"
"""What states of version 0.1 begin with."""
_KEYS = {"stage", "trainer", "statistics", "memory", "networks", "metrics", "results"}
_UNNUMBERED = "training_state.pt"
"""The one state, without a checksum, of runs that an earlier version began."""


class _Damaged(Exception):
    """Says what is wrong with a file."""


class States:
    """Files ``training_state_<iterations>.pt``, by the iterations of the whole run that lie behind.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """All states, the newest first."""
        numbered = {}
        for path in self.folder.glob("training_state_*.pt"):
            if found := re.fullmatch(r"training_state_(\d+)", path.stem, re.ASCII):
                numbered[int(found[1])] = path
        old = [path] if (path := self.folder / _UNNUMBERED).exists() else []
        return [path for _, path in sorted(numbered.items(), reverse=True)] + old

    def save(self, state: State, iterations: int, keep: int) -> None:
        """Write a state, read it back, and only then remove all but the newest ``keep``.

        Args:
            state: plain tensors, numbers, texts, lists and dicts.
            iterations: of the whole run so far.

        Raises:
            MuhdiError: it cannot be written, or the disk does not give it back; the states before
                it stay.
        """
        buffer = io.BytesIO(bytes(_HEADER))
        buffer.seek(_HEADER)
        torch.save(state, buffer)
        data = buffer.getbuffer()
        data[:_HEADER] = _MAGIC + hashlib.sha256(data[_HEADER:]).digest()
        path = self.folder / f"training_state_{iterations}.pt"
        write_bytes(path, data)
        if len(self.files()) <= keep:
            return
        try:
            _payload(path)
        except (_Damaged, OSError):
            raise RunError(
                f"{path}: does not read back as it was written, so the disk may be failing; the"
                " states before it stay: copy the run to another disk, delete this file, and go on"
                " with --resume"
            ) from None
        for old in self.files()[keep:]:
            old.unlink()

    def load(self) -> tuple[State | None, list[str]]:
        """The newest state that is whole, and a line for each damaged one that is newer.

        Reading executes no code.

        Damaged files are renamed to ``....damaged``, so that they are told of once and take no good
        one's place.

        Raises:
            MuhdiError: there are states, but none that is whole.
        """
        problems: dict[Path, str] = {}
        for path in self.files():
            try:
                state = _read(path)
            except _Damaged as error:
                problems[path] = str(error)
                continue
            for damaged in problems:
                damaged.rename(damaged.with_name(damaged.name + ".damaged"))
            return state, [
                f"{old}: {reason}; going on from {path.name}, the one before"
                for old, reason in problems.items()
            ]
        if not problems:
            return None, []
        path, reason = next(iter(problems.items()))
        others = f", nor can the {len(problems) - 1} before it" if len(problems) > 1 else ""
        raise RunError(
            f"{path}: the training state cannot be read ({reason}){others}; start anew with"
            " --overwrite, or from the run's last network with model.init"
        )


def _payload(path: Path) -> memoryview:
    """The state's bytes, if they are those that were written."""
    data = path.read_bytes()
    if data.startswith(_EARLIER):
        raise RunError(
            f"{path}: was saved by version 0.1, whose unfinished runs this version cannot continue; "
            "finish the run with muhdi 0.1, or start from its last network with model.init"
        )
    if len(data) < _HEADER or not data.startswith(_MAGIC):
        raise _Damaged("cut short, or no training state")
    payload = memoryview(data)[_HEADER:]
    if hashlib.sha256(payload).digest() != data[len(_MAGIC) : _HEADER]:
        raise _Damaged("damaged or cut short: its checksum does not agree")
    return payload


def _read(path: Path) -> State:
    try:
        payload = memoryview(path.read_bytes()) if path.name == _UNNUMBERED else _payload(path)
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except PermissionError:
        raise RunError(f"{path}: may not be read; correct its permissions") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise _Damaged((str(error).splitlines() or [type(error).__name__])[0]) from None
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise _Damaged("holds no training state")
    return state
