"""Training states: the last few of a run, each with a checksum.

If the newest is damaged, the one before it is used.
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
"""The start of a file. The SHA-256 of the rest follows, then the rest: the state."""
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size
_MAGIC_0_1 = b"muhdi state 1\n"
"""The start of a file of version 0.1."""
_KEYS = {"stage", "trainer", "statistics", "memory", "networks", "metrics", "results"}
_UNNUMBERED = "training_state.pt"
"""The one state, without a checksum, of runs that are older than version 0.1."""


class _Damaged(Exception):
    """Says what is wrong with a file."""


class States:
    """Files ``training_state_<iterations>.pt``, where ``iterations`` counts those of the whole run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """All states, the newest first."""
        numbered: dict[int, Path] = {}
        for path in self.folder.glob("training_state_*.pt"):
            found = re.fullmatch(r"training_state_(\d+)", path.stem, re.ASCII)
            if found:
                numbered[int(found[1])] = path
        files = [path for _, path in sorted(numbered.items(), reverse=True)]
        unnumbered = self.folder / _UNNUMBERED
        if unnumbered.exists():
            files.append(unnumbered)
        return files

    def save(self, state: State, iterations: int, keep: int) -> None:
        """Write a state, read it back, and only then remove all but the newest ``keep``.

        Args:
            state: plain tensors, numbers, strings, lists and dicts.
            iterations: of the whole run so far.
            keep: how many states remain, at least 1.

        Raises:
            RunError: it cannot be written, or the disk returns other bytes than it was given; the
                earlier states remain.
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
                f"{path}: does not read back as it was written, so the disk may be failing; the "
                "earlier states remain: copy the run to another disk, delete this file, and "
                "continue with --resume"
            ) from None
        self.remove_old(keep)

    def remove_old(self, keep: int) -> None:
        """Remove all but the newest ``keep``; call it once the newest one was read back."""
        for old in self.files()[keep:]:
            old.unlink()

    def load(self) -> tuple[State | None, list[str]]:
        """The newest intact state, and a line for each damaged one that is newer.

        Reading executes no code. Damaged files are renamed to ``*.damaged``, so that each is
        reported once and does not count towards ``keep``.

        Raises:
            RunError: there are states but none is intact, or the newest is of version 0.1.
        """
        problems: dict[Path, str] = {}
        for path in self.files():
            try:
                state = _read(path)
            except _Damaged as error:
                problems[path] = str(error)
            else:
                return state, _set_aside(problems, path)
        if not problems:
            return None, []
        path, reason = next(iter(problems.items()))
        others = f", nor can the {len(problems) - 1} before it" if len(problems) > 1 else ""
        raise RunError(
            f"{path}: the training state cannot be read ({reason}){others}; start again with "
            "--overwrite, or from the run's last network with model.init"
        )


def _set_aside(problems: dict[Path, str], intact: Path) -> list[str]:
    """Rename damaged files; returns a line for each."""
    lines = []
    for path, reason in problems.items():
        path.rename(path.with_name(f"{path.name}.damaged"))
        lines.append(f"{path}: {reason}; continuing from {intact.name}, the one before")
    return lines


def _payload(path: Path) -> memoryview:
    """The state's bytes, if they are those that were written.

    Raises:
        RunError: version 0.1 wrote them.
        _Damaged: they have changed, or are not a state at all.
    """
    data = path.read_bytes()
    if data.startswith(_MAGIC_0_1) or path.name == _UNNUMBERED:
        raise RunError(
            f"{path}: saved by version 0.1, whose runs this version cannot continue; finish the "
            "run with version 0.1, or start a new one from its last network with model.init"
        )
    if len(data) < _HEADER or not data.startswith(_MAGIC):
        raise _Damaged("cut short, or not a training state")
    payload = memoryview(data)[_HEADER:]
    if hashlib.sha256(payload).digest() != data[len(_MAGIC) : _HEADER]:
        raise _Damaged("damaged or cut short: its checksum does not match")
    return payload


def _read(path: Path) -> State:
    try:
        state = torch.load(io.BytesIO(_payload(path)), map_location="cpu", weights_only=True)
    except PermissionError:
        raise RunError(f"{path}: cannot be read; correct its permissions") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        lines = str(error).splitlines()
        raise _Damaged(lines[0] if lines else type(error).__name__) from None
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise _Damaged("holds no training state")
    return state
