"""The package timm: its import, the names of its networks, and what to tell a user.

timm imports torchvision, which fails where it was built for another torch.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from muhdi.errors import DataError, MuhdiError, RecipeError, nearest
from muhdi.models.backbones.probed import DINOV3_LICENCE, one_line
from muhdi.recipe.backbones import TimmConfig

OLDEST = (1, 0, 21)
"""The first version whose networks can be probed."""
TORCHVISION_AHEAD = 15
"""torch 2.N and torchvision 0.(N + 15) are a pair."""
FREE_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0")
"""Of weights, as timm calls them: those that ask for no more than to be named."""
LICENCES = {
    "dinov3-license": DINOV3_LICENCE,
    "cc-by-nc-4.0": "its weights are under CC BY-NC 4.0: no commercial use",
    "fair-noncommercial-research-license": "its weights are for research alone: no commercial use",
}
"""What a user should know who means to publish or sell, by licence."""


def import_timm() -> Any:
    """The package.

    Raises:
        RecipeError: it is missing or too old, or torchvision is missing or does not fit torch.
    """
    if find_spec("timm") is None:
        raise RecipeError("model.backbone: timm: needs the package timm; pip install 'muhdi[timm]'")
    try:
        import timm
    except (ImportError, RuntimeError, AttributeError) as error:
        raise RecipeError(f"model.backbone: timm: {_import_failed(error)}") from None
    numbers = tuple(int(number) for number in re.findall(r"\d+", timm.__version__)[:3])
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RecipeError(
            f"model.backbone: timm: version {timm.__version__} is too old; pip install"
            f" 'timm>={oldest}'"
        )
    return timm


def _import_failed(error: Exception) -> str:
    """Why timm cannot be imported, and what to install."""
    try:
        found = version("torchvision")
    except PackageNotFoundError:
        wanted = _fitting_torchvision(torch.__version__)
        return (
            f"needs torchvision, which is not installed; pip install {wanted}, from where torch"
            f" {torch.__version__} came"
        )
    reason = one_line(error)
    if "torchvision" not in reason:
        return f"cannot be imported ({reason}); pip install --upgrade timm"
    return (
        f"torchvision {found} does not work beside torch {torch.__version__} ({reason}); install"
        f" {_fitting_torchvision(torch.__version__)}, and both from one place: from PyPI, or from"
        " PyTorch's index"
    )


def _fitting_torchvision(torch_version: str) -> str:
    """What pip calls the torchvision of a version of torch."""
    release = re.match(r"2\.(\d+)", torch_version)
    if release is None:
        return "the torchvision of its release"
    return f"'torchvision==0.{int(release[1]) + TORCHVISION_AHEAD}.*'"


def check_name(timm: Any, config: TimmConfig) -> None:
    """Refuse a name that timm does not know.

    Raises:
        RecipeError: names the nearest one.
    """
    name = config.model_name
    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models(include_tags=bool(dot))
        raise RecipeError(
            f"model.backbone: {config.name}: timm {timm.__version__} has no such network"
            f"{nearest(name, known)}"
        )
    tagged = timm.list_pretrained(f"{architecture}.*")
    if config.configuration is None and dot and name not in tagged:
        raise RecipeError(
            f"model.backbone: {config.name}: timm {timm.__version__} has no such weights"
            f"{nearest(name, tagged)} (known: {', '.join(tagged) or 'none'})"
        )


def licence_notes(config: TimmConfig, licence: str | None) -> list[str]:
    """What a user should know of the licence of a network's weights."""
    if licence is None or licence in FREE_LICENCES:
        return []
    text = f"the licence of its weights is {licence!r}: read it before you publish or sell"
    return [f"{config.name}: {LICENCES.get(licence, text)}"]


@contextmanager
def in_one_line(config: TimmConfig) -> Iterator[None]:
    """Turn whatever timm raises into one line, and keep its reports to itself."""
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except MuhdiError:
        raise
    except Exception as error:  # networks raise errors of many kinds
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"model.backbone: {config.name}: cannot be built: {reason}") from None
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def without_weights(config: TimmConfig, source: Any, error: Exception) -> MuhdiError:
    """What to tell a user whose weights cannot be had.

    Args:
        config: names the network.
        source: timm's configuration of its weights.
        error: what loading them raised.
    """
    key = f"model.backbone: {config.name}"
    if config.file is not None or isinstance(error, RuntimeError):
        given = config.file or "what is in the cache"
        return DataError(f"{key}: {given} is not of this network ({one_line(error)})")
    if source.hf_hub_id:
        file = source.hf_hub_filename or "model.safetensors"
        fetch = (
            f"fetch {file} elsewhere ('hf download {source.hf_hub_id} {file} --local-dir FOLDER')"
        )
    else:
        fetch = f"fetch {source.url} elsewhere"
        file = str(source.url).rpartition("/")[2]
    return DataError(
        f"{key}: its weights are not to be had from the network ({one_line(error)}); {fetch} and"
        f" set model.backbone.file=FOLDER/{file}, or set model.backbone.pretrained=false"
    )
