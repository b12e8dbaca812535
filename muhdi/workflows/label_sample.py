"""Picking the images of a target that are worth a label, for whoever draws it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muhdi.data.arrays import images_tensor
from muhdi.data.catalog import DataContext, labelling_advice, open_split
from muhdi.data.channels import colours_of
from muhdi.data.few_labels import short_names
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import ImageSet
from muhdi.deploy.predictor import Predictor
from muhdi.errors import DataError, MuhdiError, RecipeError, check_type, nearest
from muhdi.evaluation.domains import OnProgress
from muhdi.evaluation.worth_labelling import worth_labelling
from muhdi.files import check_folder_target, file_name, write_png, write_text, writing
from muhdi.losses import entropy_map
from muhdi.models.inference import Inference
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.load import RECIPE, load_recipe
from muhdi.recipe.schema import Recipe

LIST = "list.txt"
IMAGES = "images"


@dataclass(frozen=True)
class LabelSample:
    """Images that are worth a label.

    Attributes:
        domain: that they are of.
        key: of the step that trains on it.
        names: of the images, as the list has them.
        total: number of all its training images.
        list: the file that ``labelled`` of a recipe takes.
        images: the folder of copies.
        advice: what to do so that the run's recipe finds their labels.
    """

    domain: str
    key: str
    names: list[str]
    total: int
    list: Path
    images: Path
    advice: str


def label_sample(  # noqa: PLR0913 - options by name
    run: Path | str,
    output: Path | str,
    *,
    count: int = 20,
    domain: str | None = None,
    overwrite: bool = False,
    trust_code: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> LabelSample:
    """Pick the training images of a target that are worth a label.

    They are spread over what the domain shows, by the features of the run's newest network, and
    among images that look alike the one counts whose predictions are least sure. The same network
    and images give the same choice.

    Args:
        run: directory of a run.
        output: folder for ``list.txt``, which ``labelled`` of a step takes, and ``images/``.
        count: how many.
        domain: which target; None: that of the last step.
        overwrite: replace what an earlier choice has written there.
        trust_code: whether classes of other packages that the run names are imported.
        on_progress: called with the number of images that were looked at, and of all.

    Raises:
        MuhdiError: there is no run, network or such target, it has too few images, or the folder
            holds files.
    """
    check_type("run", run, str, Path)
    check_type("count", count, int)
    folder = Path(output)
    _check_output(folder, overwrite=overwrite)
    recipe = _recipe_of(Path(run), trust_code=trust_code)
    key, config = _target(recipe, domain)
    context = DataContext.of(recipe)
    images = open_split(config, "train", context, labels=False)
    _check_count(count, images)
    predictor = Predictor.load(run, trust_code=trust_code)
    size = recipe.size_of(config)
    loading = Loading(channels=recipe.channels)
    samples = PreparedSet(images, size, size, with_labels=False, loading=loading)
    vectors, entropies = _looked_at(predictor.inference, samples, recipe, on_progress)
    chosen = worth_labelling(vectors, entropies, count)
    names = short_names(images)
    listed = [names[index] for index in chosen]
    _write(folder, images, chosen, listed)
    return LabelSample(
        config.domain_name,
        key,
        listed,
        len(images),
        folder / LIST,
        folder / IMAGES,
        labelling_advice(config, context),
    )


def _check_output(folder: Path, *, overwrite: bool) -> None:
    check_folder_target(folder)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise MuhdiError(
            f"{folder}: is not empty; choose another folder, or give --overwrite (overwrite=True)"
        )


def _recipe_of(run: Path, *, trust_code: bool) -> Recipe:
    path = run / RECIPE
    if not path.is_file():
        raise DataError(
            f"{run}: is not a run directory; give a folder such as experiments/snapshots/NAME"
        )
    recipe = load_recipe(path, trust_code=trust_code)
    recipe.check_trusted()
    return recipe


def _target(recipe: Recipe, domain: str | None) -> tuple[str, DomainConfig]:
    """Key of the last step that trains on a target alone, and the target's section."""
    targets: dict[str, tuple[str, DomainConfig]] = {}
    together: dict[str, str] = {}
    for number, step in enumerate(recipe.steps):
        key = f"steps.{number}"
        if step.targets is not None:
            together |= dict.fromkeys(step.domain_names, key)
        else:
            targets |= {data.domain_name: (key, data) for data in step.domains}
    if not recipe.steps:
        raise RecipeError(f"{recipe.name}: has no steps, so there is no target to label")
    wanted = recipe.steps[-1].name if domain is None else domain
    if wanted in targets:
        return targets[wanted]
    if wanted in together or domain is None:
        raise RecipeError(
            f"--domain {wanted}: {together.get(wanted, 'the last step')} learns several targets"
            " together, and labelled takes images of one; give it a step with that target alone"
        )
    raise RecipeError(
        f"--domain {domain}: the run has no such target{nearest(wanted, list(targets))}"
        f" (targets: {', '.join(targets)})"
    )


def _check_count(count: int, images: ImageSet) -> None:
    if not 0 < count <= len(images):
        raise RecipeError(
            f"--count {count}: {images.domain!r} has {len(images)} training images; give a number"
            f" from 1 to {len(images)}"
        )


@torch.no_grad()
def _looked_at(
    inference: Inference, samples: PreparedSet, recipe: Recipe, on_progress: OnProgress
) -> tuple[np.ndarray, np.ndarray]:
    """Features of each image, [N, D], and the mean entropy of its predictions, [N]."""
    vectors: list[Tensor] = []
    entropies: list[Tensor] = []
    total = len(samples)
    size = recipe.evaluation.batch_size
    with _coarsest(inference) as features:
        for start in range(0, total, size):
            indices = range(start, min(start + size, total))
            batch = images_tensor([samples[i].image for i in indices], inference.device)
            probabilities = inference(batch).float().softmax(1)
            entropies.append(entropy_map(probabilities).sum(1).mean((1, 2)).cpu())
            vectors.append(features.pop().float().mean((2, 3)).cpu())
            on_progress(indices.stop, total)
    return torch.cat(vectors).double().numpy(), torch.cat(entropies).double().numpy()


@contextmanager
def _coarsest(inference: Inference) -> Iterator[list[Tensor]]:
    """Inside, the backbone's coarsest features of whatever the network is shown are collected."""
    found: list[Tensor] = []

    def keep(module: object, inputs: object, features: Sequence[Tensor]) -> None:
        found.append(features[-1])

    handle = inference.network.backbone.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def _write(folder: Path, images: ImageSet, chosen: Sequence[int], listed: Sequence[str]) -> None:
    """The list, and a copy of each image; copies of an earlier choice go, other files stay."""
    copies = folder / IMAGES
    earlier = folder / LIST
    with writing(copies):
        copies.mkdir(parents=True, exist_ok=True)
        names = earlier.read_text(encoding="utf-8").splitlines() if earlier.is_file() else []
        for name in copied_names(names):
            for copy in (copies / name, copies / f"{name}.png"):
                copy.unlink(missing_ok=True)
        earlier.unlink(missing_ok=True)
    for index, name in zip(chosen, copied_names(listed), strict=True):
        file = Path(images.name(index))
        if file.is_file():
            with writing(copies / name):
                shutil.copyfile(file, copies / name)
        else:
            write_png(
                copies / f"{name}.png", Image.fromarray(colours_of(images.read(index, False).image))
            )
    # Last: a folder with a list is complete.
    write_text(folder / LIST, "".join(f"{name}\n" for name in listed))


def copied_names(names: Sequence[str]) -> list[str]:
    """What copies of images are called in one folder: their file's name, where it is the only one.

    Else their folders' names come before it.
    """
    ends = [name.rpartition("/")[2] for name in names]
    # Some systems tell no case of letters apart.
    count = Counter(end.lower() for end in ends)
    return [
        end if count[end.lower()] == 1 else file_name(name.replace("/", "_"))
        for name, end in zip(names, ends, strict=True)
    ]
