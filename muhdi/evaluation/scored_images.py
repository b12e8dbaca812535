"""What the scores of a domain were measured on, so that unlike ones are not taken for like ones."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from muhdi.data.domains import Domains
from muhdi.data.files import FileSet
from muhdi.data.prepared import PreparedSet
from muhdi.data.shards.shard_set import ShardSet
from muhdi.evaluation.results import ScoredImages
from muhdi.evaluation.views import Views
from muhdi.recipe.schema import Recipe


def scored_images(domains: Domains, recipe: Recipe) -> dict[str, ScoredImages]:
    """What is scored, by domain.

    Args:
        domains: whose evaluation's images are scored.
        recipe: says at which size, and by which views.
    """
    size = "native" if recipe.evaluation.size is None else _size_text(recipe.evaluation.size)
    found = {}
    for name, samples in domains.validation.items():
        root, content = _files_of(samples)
        found[name] = ScoredImages(
            root=root,
            images=len(samples),
            content=content,
            input_size="native" if samples.size is None else _size_text(samples.size),
            size=size,
            fit=samples.images.fit,
            views=str(Views.of(recipe.evaluation)),
        )
    return found


def _size_text(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _files_of(samples: PreparedSet) -> tuple[str, str]:
    """The folder or address that holds all images, and a digest; both empty without files."""
    images = samples.images
    if isinstance(images, ShardSet):
        return str(images.storage), images.fingerprint()
    if not isinstance(images, FileSet):
        return "", ""
    root = _common_folder(images.images)
    digest = hashlib.sha256(_listing(images.images, root))
    if not images.channels.are_plain:
        digest.update(str(images.channels).encode())
    further = [path for bands in images.bands for path in bands]
    if further:
        digest.update(_listing(further, _common_folder(further)))
    if images.labels is not None:
        paths = images.labels.paths
        digest.update(_listing(paths, _common_folder(paths)))
        digest.update(images.labels.meaning.encode())
    return root, digest.hexdigest()


def _common_folder(paths: Sequence[Path]) -> str:
    return os.path.commonpath([os.path.abspath(path.parent) for path in paths])


def _listing(paths: Sequence[Path], root: str) -> bytes:
    """Names below a folder and sizes: equal for copies of a data set, wherever they lie."""
    rows: list[list[str | int]] = []
    for path in paths:
        size = 0
        with suppress(OSError):  # reading the file will report it
            size = os.stat(path).st_size
        rows.append([os.path.relpath(path, root), size])
    return json.dumps(rows).encode()
