"""From a recipe's section to the images in shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from muhdi.data.catalog import DataContext
from muhdi.data.channels import Channels
from muhdi.data.paths import expand, expand_root
from muhdi.data.sets import ImageSet
from muhdi.data.shards.index import SplitIndex, read_index
from muhdi.data.shards.kept import KeptShards
from muhdi.data.shards.shard_set import Reading, ShardSet, kept_folder
from muhdi.data.shards.storage import Storage, default_kept, is_address
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.domains import ShardsConfig
from muhdi.recipe.section import RGB
from muhdi.taxonomy import IGNORE

_MB = 2**20


def open_shards(config: ShardsConfig, split: str, context: DataContext, labels: bool) -> ImageSet:
    """A split of a domain in shards.

    Raises:
        RecipeError: the recipe's classes lack one of the labels', or it has further channels.
        DataError: there are no finished shards, their index is damaged, or the address cannot be
            reached.
    """
    check_plain(context.channels)
    storage = _storage(config, context).below(split)
    index = read_index(storage)
    if index is None:
        raise DataError(
            f"root: {storage} holds no finished shards; write them with muhdi prepare RECIPE"
            " --shards FOLDER, or correct the root"
        )
    table = _table(storage, index, context) if labels and index.labelled else None
    kept = None
    if storage.folder is None:
        kept = _kept(config, context, storage, index)
    return ShardSet(storage, index, Reading(config.domain_name, labels, table, config.mixed, kept))


def check_plain(channels: Channels) -> None:
    """Refuse images that shards do not hold.

    Raises:
        RecipeError: names the key.
    """
    if not channels.are_plain:
        key = "channels" if channels.count != RGB else "pixel_range"
        raise RecipeError(
            f"{key}: shards hold red, green and blue as viewers show them; leave {key} out, or read"
            " the images from files"
        )


def _storage(config: ShardsConfig, context: DataContext) -> Storage:
    if is_address(config.root):
        return Storage(expand(config.root, "root of the data set"))
    return Storage(str(expand_root(context.root, config.root)))


def _table(
    storage: Storage, index: SplitIndex, context: DataContext
) -> npt.NDArray[np.uint8] | None:
    """From the classes of the shards to the recipe's; None: they are the same."""
    if index.classes == context.classes.classes:
        return None
    ids = {**dict(enumerate(index.classes)), IGNORE: "ignore"}
    try:
        return context.classes.lookup(ids)[: IGNORE + 1]
    except RecipeError as error:
        raise RecipeError(
            f"classes: {storage} holds labels of other classes: {error}; write shards of this"
            " recipe"
        ) from None


def _kept(
    config: ShardsConfig, context: DataContext, storage: Storage, index: SplitIndex
) -> KeptShards:
    """Where shards of an address are kept.

    Raises:
        DataError: the limit is below what is in use at a time.
    """
    # One window is read, the next is fetched, and the last shard of the former may still be open.
    at_once = 2 * config.mixed + 1
    largest = sorted((shard.chunk_bytes for shard in index.shards), reverse=True)
    needed = -(-sum(largest[:at_once]) // _MB)
    if needed > config.keep_mb:
        raise DataError(
            f"keep_mb: {config.keep_mb} MiB are too few for the shards of {storage} that are in use"
            f" at a time; give at least {needed}, or a smaller 'mixed'"
        )
    base = default_kept()
    if config.kept is not None:
        base = Path(expand(context.root, "runtime.root"), expand(config.kept, "kept"))
    return KeptShards(storage, kept_folder(base, storage, index), config.keep_mb * _MB)
