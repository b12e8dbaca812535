"""Reading and writing videos, through PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muhdi.errors import MuhdiError
from muhdi.files import TEMPORARY


def pyav() -> Any:
    """PyAV, which is an extra."""
    try:
        import av
    except ImportError:
        raise MuhdiError("videos need PyAV; install it: pip install 'muhdi[video]'") from None
    return av


class Video:
    """The frames of a video.

    Args:
        path: of the file.
        every: give every n-th frame.

    Raises:
        MuhdiError: it cannot be read.
    """

    def __init__(self, path: Path, every: int = 1) -> None:
        self.path = path
        self.every = every
        self._av = pyav()
        try:
            self._container = self._av.open(str(path))
            stream = self._container.streams.video[0]
        except (self._av.FFmpegError, IndexError) as error:
            raise MuhdiError(f"{path}: not a video that can be read ({error})") from None
        self.rate = Fraction(stream.average_rate or 25) / every
        self.length = -(-stream.frames // every) if stream.frames else None

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames, uint8 RGB [H, W, 3]."""
        try:
            with self._container:
                for number, frame in enumerate(self._container.decode(video=0)):
                    if number % self.every == 0:
                        # A film held upright is stored on its side, with a note of the turn.
                        quarters = round(getattr(frame, "rotation", 0) / 90)
                        pixels = frame.to_ndarray(format="rgb24")
                        yield np.ascontiguousarray(np.rot90(pixels, quarters))
        except self._av.FFmpegError as error:
            raise MuhdiError(f"{self.path}: the video is damaged ({error})") from None


class VideoWriter:
    """Writes an mp4 under a temporary name, and gives it its own when it is closed.

    Args:
        path: ends in ``.mp4``.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path = path
        self._rate = rate
        self._av = pyav()
        self._stream: Any = None
        self._temporary = path.parent / f".{path.stem}.{os.getpid()}{TEMPORARY}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(self._temporary), "w")

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """The next frame, uint8 RGB [H, W, 3].

        Sides are cut to even numbers, as the format requires.
        """
        even = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])
        if self._stream is None:
            codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = even.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        self._container.mux(
            self._stream.encode(self._av.VideoFrame.from_ndarray(even, format="rgb24"))
        )

    def close(self) -> None:
        """Finish the file: it is whole, or holds what could be read."""
        if self._stream is None:
            self.discard()
            return
        self._container.mux(self._stream.encode())
        self._container.close()
        os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Leave nothing."""
        self._container.close()
        self._temporary.unlink(missing_ok=True)
