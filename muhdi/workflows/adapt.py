"""The next model for a new place.

A recipe from a trained run and a folder of images, and what it changed.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from muhdi import distributed
from muhdi.data.catalog import Context, open_split
from muhdi.data.domains import Domains
from muhdi.deploy.find import device_of, network_file, run_of
from muhdi.deploy.predictor import Predictor
from muhdi.errors import MuhdiError
from muhdi.evaluation.domains import Scored, image_batches
from muhdi.evaluation.results import Results
from muhdi.files import file_name, write_json
from muhdi.losses import entropy
from muhdi.models.checkpoint import load_checkpoint
from muhdi.preflight.survey import survey
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.load import load_recipe
from muhdi.recipe.methods import NEXT_STEP
from muhdi.recipe.schema import Recipe
from muhdi.report.run_files import CHANGE
from muhdi.run.directory import RunDirectory
from muhdi.workflows.report import report
from muhdi.workflows.train import train


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        recipe: one step, from the trained network to the new place; every earlier domain is
            evaluated.
        network: the file it starts from.
        notes: what the user should know.
    """

    recipe: Recipe
    network: Path
    notes: list[str]


def adapt_as_planned(
    plan: Plan,
    experiments: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Results:
    """Take a trained network to a new place: the next model, and a report of what changed.

    Args:
        plan: from `plan_adaptation`.
        experiments: folder of ``snapshots`` and ``logs``; None: the recipe says where they are.
        resume: continue an interrupted run.
        overwrite: begin again where the run exists.
        quiet: nothing on the screen.

    Returns:
        Scores of every domain before and after; their ``notes`` are for the user.

    Raises:
        MuhdiError: see `muhdi.train`.
    """
    results = train(plan.recipe, experiments, resume=resume, overwrite=overwrite, quiet=quiet)
    results.notes = plan.notes
    if distributed.is_rank_zero():
        folder = RunDirectory.of(plan.recipe, experiments).folder
        with distributed.without_peers():
            record_change(plan, folder)
        report(folder, trust_code=True)
    return results


def adapt(
    model: Path | str,
    images: Path | str,
    *,
    source: str | None = None,
    settings: Sequence[str] = (),
    trust_code: bool = False,
    **options: Any,
) -> Results:
    """Take a trained network to a new place: `plan_adaptation`, and then `adapt_as_planned`.

    Args:
        model: a run directory, a network file, or an exported folder.
        images: folder of images of the new place; its name is the domain's.
        source: recipe with the source to train on; None: that of the run that the model is in.
        settings: ``key=value`` changes, ``every_step.iterations=100`` for example.
        trust_code: whether classes of other packages, which the model or its run names, are
            imported.
        options: of `adapt_as_planned`, such as ``experiments``.

    Returns:
        Scores of every domain before and after; their ``notes`` are for the user.

    Raises:
        MuhdiError: there is no network, no image, or no recipe with a source whose data are there.
    """
    plan = plan_adaptation(
        Path(model), Path(images), source=source, settings=settings, trust_code=trust_code
    )
    return adapt_as_planned(plan, **options)


def plan_adaptation(
    model: Path,
    images: Path,
    *,
    source: str | None = None,
    settings: Sequence[str] = (),
    seed: int | None = None,
    trust_code: bool = False,
) -> Plan:
    """The recipe that takes a trained network to a new place.

    Args:
        model: a run directory, a network file, or an exported folder.
        images: folder of images of the new place; its name is the domain's.
        source: recipe whose source is trained on and whose domains are evaluated; None: that of the
            run the model lies in. The step is done as that recipe's last one.
        settings: ``key=value`` changes, ``every_step.iterations=100`` for example.
        seed: of the run.
        trust_code: whether classes of other packages are imported.

    Raises:
        MuhdiError: there is no network, no image, or no recipe with a source whose data are there.
    """
    network, run = network_file(model), run_of(model)
    if source is None and run is None:
        raise MuhdiError(
            f"{model}: lies in no run directory; say with --source RECIPE on which source it was"
            " trained"
        )
    if source is not None:
        base = load_recipe(source)
    else:
        base = load_recipe(Path(str(run)) / "recipe.yml", trust_code=trust_code)
    if base.source is None:
        raise MuhdiError(
            f"{source or run}: its recipe has no source; name another with --source RECIPE"
        )
    checkpoint = load_checkpoint(network, trust_code=trust_code)
    if checkpoint.classes != base.class_set().classes:
        raise MuhdiError(
            f"{network}: its classes are not those of the recipe {base.name!r}; give --source"
            " another one"
        )
    found = survey(images, labelled=False)
    target: dict[str, Any] = {"dataset": "folder", "name": Path(os.path.abspath(images)).name}
    target |= {"root": os.path.abspath(images), "images": found.images}
    if found.val is not None:
        target["val_images"] = found.val[0]
    data = base.model_dump(
        mode="json", exclude_none=True, exclude={"name", "description", "notes", "steps", "test"}
    )
    extra, notes = _earlier(base, target["name"])
    step = dict(NEXT_STEP)
    if base.steps:
        step = base.steps[-1].model_dump(mode="json", exclude_none=True, exclude={"target"})
    data |= {
        "name": f"{run.name if run is not None else network.stem}_{file_name(target['name'])}",
        "description": (
            f"{target['name']}, learnt from {found.count} images without labels, after {base.name}"
        ),
        "source_training": data["source_training"] | {"iterations": 0},
        "model": {
            "backbone": checkpoint.backbone.model_dump(mode="json", exclude_none=True),
            "init": os.path.abspath(network),
            "multi_level": checkpoint.network.multi_level,
        },
        "image_size": list(checkpoint.image_size),
        "extra_domains": [domain.model_dump(mode="json", exclude_none=True) for domain in extra],
        "every_step": step,
        "steps": [{"target": target}],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapt.yml"
        path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
        # What the run names is trusted as far as the run is; a source was named by the user.
        trusted = trust_code or source is not None
        return Plan(load_recipe(path, settings, seed, trust_code=trusted), network, notes)


def _earlier(recipe: Recipe, new: str) -> tuple[list[DomainConfig], list[str]]:
    """Targets and extra domains whose images are still there, each once, and notes on others."""
    context = Context.of(recipe)
    kept: dict[str, DomainConfig] = {}
    notes = []
    for _, data in recipe.domains():
        name = data.domain_name
        if name == recipe.source_name() or name in kept:
            continue
        if name == new:
            raise MuhdiError(
                f"--images: a domain is called {name!r} already; rename the folder, or give one of"
                " its own"
            )
        try:
            for split in ("train", "val"):
                open_split(data, split, context, labels=split == "val")
            kept[name] = data
        except MuhdiError as error:
            notes.append(f"{name}: is not evaluated, its images are not there any more ({error})")
    return list(kept.values()), notes


def record_change(plan: Plan, run: Path) -> None:
    """Write ``change.json``.

    What the old and the new network make of images of every domain, which need no labels.

    A row per kind of statistics and domain: ``images``, ``confidence`` (mean probability of the
    most likely class), ``entropy`` (normalised, 0: certain) ``_before`` and ``_after``, and
    ``agreement`` (pixels of the same class), in percent. What cannot be measured, since a network
    holds no statistics of the domain, is left out.
    """
    device = device_of("auto")
    networks = (plan.network, network_file(run))
    scored = Scored(
        load_checkpoint(plan.network, trust_code=True).network,
        statistics=plan.recipe.evaluation.statistics,
    )
    rows: list[dict[str, Any]] = []
    for statistics in scored.rows:
        for name, samples in Domains(plan.recipe, training=False).validation.items():
            pair = [_predictor(file, statistics, name) for file in networks]
            batches = image_batches(samples, plan.recipe, device)
            rows.append({"statistics": statistics, "domain": name, **_change(pair, batches)})
    write_json(run / CHANGE, rows)


@torch.no_grad()
def _change(pair: Sequence[Predictor | None], batches: Iterable[Tensor]) -> dict[str, float]:
    """The measures of one domain."""
    totals: dict[str, float] = defaultdict(float)
    images = 0
    for batch in batches:
        images += len(batch)
        outputs = [None if predictor is None else predictor(batch).softmax(1) for predictor in pair]
        for moment, shares in zip(("before", "after"), outputs, strict=True):
            if shares is not None:
                totals[f"confidence_{moment}"] += len(batch) * float(shares.amax(1).mean())
                totals[f"entropy_{moment}"] += len(batch) * float(entropy(shares))
        classes = [shares.argmax(1) for shares in outputs if shares is not None]
        if len(classes) == 2:
            totals["agreement"] += len(batch) * float((classes[0] == classes[1]).float().mean())
    return {"images": images} | {
        key: round(100 * total / images, 4) for key, total in totals.items()
    }


def _predictor(network: Path, kind: str, domain: str) -> Predictor | None:
    """A network with one kind of statistics; None where it holds none of this domain."""
    if kind == "domain" and domain not in load_checkpoint(network, trust_code=True).statistics:
        return None
    return Predictor.load(
        network, statistics=kind, domain=domain if kind == "domain" else None, trust_code=True
    )
