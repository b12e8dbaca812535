"""Recipes, images and networks of made-up work: what benchmarks of whole iterations train."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric

from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import ImageSet, Sample, Size
from muhdi.data.stream import LoadedBatch, collate
from muhdi.evaluation.results import Results
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import IGNORE
from muhdi.training.carried import Carried
from muhdi.training.sets import Sets
from muhdi.training.stage import StageTrainer
from muhdi.training.start import new_network

BLOCK = 8
"""Side of the blocks of one class."""
SEGFORMERS: dict[str, dict[str, Any]] = {
    "tiny": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 40, 64]},
    "b0": {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256]},
    "b5": {"depths": [3, 6, 40, 3], "hidden_sizes": [64, 128, 320, 512]},
}
"""What differs between MiTs (Xie et al. 2021, table 6); one is for tests."""
DINOV2S: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 56,
    },
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 518,
    },
}
"""What differs between DINOv2s (Oquab et al. 2023); one is for tests."""


class MadeUp(ImageSet):
    """Noise with labels of blocks, some of them ignored; the same whenever it is read.

    Args:
        domain: name of the domain.
        count: number of images.
        size: width and height.
        classes: number of classes.
    """

    def __init__(self, domain: str, count: int, size: Size, classes: int) -> None:
        self.domain = domain
        self.count = count
        self.size = size
        self.classes = classes
        self.labelled = True

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.domain} {index}"

    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        rng = np.random.default_rng([len(self.domain), index])
        width, height = self.size
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        blocks = rng.integers(0, self.classes + 1, (-(-height // BLOCK), -(-width // BLOCK)))
        blocks[blocks == self.classes] = IGNORE
        label = blocks.astype(np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width]
        return Sample(self.name(index), image, label if with_label else None)

    def fingerprint(self) -> str:
        return repr((self.domain, self.count, self.size, self.classes))


def prepared(images: ImageSet, size: Size, *, with_labels: bool) -> PreparedSet:
    """Images that stay in memory once they were read."""
    loading = Loading(memory=2**32)
    return PreparedSet(images, size, size, with_labels=with_labels, loading=loading)


def sets_in_memory(recipe: Recipe, count: int, size: Size) -> Sets:
    """A source with labels and a target without, of some images of a size."""
    classes = len(recipe.class_set())
    source = prepared(MadeUp("source", count, size, classes), size, with_labels=True)
    target = prepared(MadeUp("target", count, size, classes), size, with_labels=False)
    return Sets(source, (target,))


def whole_batch(samples: PreparedSet) -> LoadedBatch:
    """All images of a set."""
    return collate([samples[index] for index in range(len(samples))])


def one_step(backbone: str | dict[str, Any], size: Size, batch: int, **changes: Any) -> Recipe:
    """A recipe of one step, which is self-training where nothing else is said.

    Args:
        backbone: of the network.
        size: of images.
        batch: images per domain.
        changes: other keys of the recipe; ``step`` and ``model`` hold further keys of theirs.
    """
    step = {"iterations": 1000, "batch_size": batch, "adaptation": "selftrain"}
    step |= {"target": {"dataset": "scenes", "domain": "city"}} | changes.pop("step", {})
    values: dict[str, Any] = {
        "name": "benchmark",
        "classes": "urban19",
        "image_size": list(size),
        "source": {"dataset": "scenes", "domain": "sim"},
        "model": {"backbone": backbone} | changes.pop("model", {}),
        "steps": [step],
    }
    return Recipe.model_validate(values | changes)


T = TypeVar("T", bound=StageTrainer)


def trainer(kind: type[T], fabric: Fabric, recipe: Recipe, sets: Sets) -> T:
    """The trainer of a recipe's only step, of a network with random weights."""
    torch.manual_seed(recipe.seed)
    network = new_network(recipe)
    carried = Carried(network, Results(recipe.name, recipe.seed, "source", [], [], []))
    begun = kind(fabric, recipe, 1, carried, sets)
    network.train()
    return begun


def folder_of(configuration: Any, folder: Path) -> dict[str, Any]:
    """The section of a backbone of transformers with random weights.

    Its configuration is written to a folder.
    """
    configuration.save_pretrained(folder)
    return {"name": f"hf:{folder}", "pretrained": False}


def segformer_folder(size: str, folder: Path) -> dict[str, Any]:
    """The section of a MiT of one of the sizes of `SEGFORMERS`."""
    from transformers import SegformerConfig

    return folder_of(SegformerConfig(**SEGFORMERS[size]), folder / size)


def dinov2_folder(size: str, folder: Path) -> dict[str, Any]:
    """The section of a DINOv2 of one of the sizes of `DINOV2S`."""
    from transformers import Dinov2Config

    return folder_of(Dinov2Config(patch_size=14, **DINOV2S[size]), folder / f"dinov2-{size}")
