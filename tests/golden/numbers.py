"""The deterministic weights and inputs of the golden numbers; their README gives the recipe."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import torch
from torch import Tensor

MEAN = np.array([104.00698793, 116.66876762, 122.67891434], np.float32)


def generator(name: str, salt: str) -> np.random.Generator:
    """A generator of its own for every name."""
    return np.random.Generator(np.random.PCG64(zlib.crc32((salt + name).encode())))


@cache
def tensor(key: str, shape: tuple[int, ...], salt: str, prefix: str = "") -> Tensor:
    """The weight ``key`` of a network in the reference's layout.

    Networks share most of theirs, so each is drawn once. Nobody may change it.
    """
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    x = generator(prefix + key, salt).standard_normal(shape)
    if key.endswith("running_mean"):
        x = 0.1 * x
    elif key.endswith("running_var"):
        x = (1 + 0.1 * np.abs(x)) * (10000 if key == "bn1.running_var" else 1)
    elif x.ndim == 4 and key.startswith(("layer5", "layer6", "layer7", "layer8")) and not prefix:
        x = 0.004 * x
    elif x.ndim == 4:
        half = not prefix and (".conv3." in key or ".downsample." in key)
        x = x * np.sqrt(2 / np.prod(shape[1:])) * (0.5 if half else 1)
    else:
        x = 1 + 0.1 * x if key.endswith("weight") else 0.1 * x
    return torch.from_numpy(np.asarray(x, np.float32))


def image(name: str, n: int, h: int, w: int, salt: str) -> Tensor:
    """RGB images 0..255 as uint8; the golden input is their BGR minus `MEAN`."""
    bgr = generator(name, salt).integers(0, 256, size=(n, 3, h, w)).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(bgr[:, ::-1]))
