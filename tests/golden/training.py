"""The reference's training, iteration by iteration.

Losses, and the networks at the end, for every variant.

A variant's overrides are read through `muhdi.recipe.reference_yaml`, as a configuration file of the
reference would be, and run with the pieces that `StageTrainer` is made of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from muhdi.adaptation.base import Adaptation
from muhdi.method import MethodContext
from muhdi.models.fast import accelerate
from muhdi.models.reference_weights import from_foreign, to_reference
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch
from muhdi.recipe.reference_yaml import translate
from muhdi.recipe.schema import Recipe
from muhdi.retention.base import Retention, trained_heads
from muhdi.training.iteration import train_iteration
from muhdi.training.optim import build_optimizer, freeze_affine, poly, set_learning_rate
from muhdi.training.passes import Methods
from muhdi.training.stage_batches import NoBatches
from tests.golden import numbers as recipe
from tests.golden.networks import golden_weights, network, read
from tests.testers import PlainRunner

CLASSES = 7
TOLERANCE = {"float64": (1e-9, 1e-9, 1e-7), "float32": (1e-4, 5e-3, None)}
"""Relative, of the losses at iteration 0, of the later ones, and of the networks' statistics."""


IN_BOTH_TYPES = 1
"""Variants that are computed in float32 too, whose wider tolerance shows less than float64 does."""


def variants(folder: Path) -> list[tuple[str, str]]:
    facts = read(folder, "e_trajectories.json")
    found = []
    for position, (name, runs) in enumerate(facts["variants"].items()):
        strictest = ["float64"] if "float64" in runs else list(runs)
        found += [(name, dtype) for dtype in (runs if position < IN_BOTH_TYPES else strictest)]
    return found


def pytest_generate_tests_of(metafunc: pytest.Metafunc, folder: Path) -> None:
    """One test per variant and type that the file holds."""
    try:
        found = variants(folder)
    except pytest.skip.Exception as reason:
        metafunc.parametrize(
            "variant", [pytest.param(None, marks=pytest.mark.skip(reason=str(reason)))]
        )
        return
    metafunc.parametrize("variant", found, ids=["-".join(pair) for pair in found])


def is_muhdi(variant: dict[str, Any]) -> bool:
    """By its losses: MuHDi's have a specialist."""
    return any(name.endswith("_spe") for name in variant["losses"][0])


def step_of(facts: dict[str, Any], variant: dict[str, Any]) -> Recipe:
    """The recipe of a variant: the reference's defaults with the file's overrides."""
    model = "DeepLabv2MuHDi" if is_muhdi(variant) else "DeepLabv2"
    train: dict[str, Any] = {
        "MODEL": model,
        "RESTORE_FROM": variant["checkpoint"],
        "MAX_ITERS": facts["MAX_ITERS"],
        "EARLY_STOP": facts["iterations"],
        "DISTILL": {},
    }
    for key, value in (facts["common_overrides"] | variant["overrides"]).items():
        part, _, name = key.rpartition(".")
        (train[part] if part else train)[name or key] = value
    data = {
        "EXP_NAME": variant["name"],
        "SOURCE": "GTA",
        "TARGETS": ["Cityscapes"],
        "NUM_CLASSES": CLASSES,
        "TRAIN": train,
    }
    values, _ = translate(data, variant["name"])
    if variant["dedup_optimizer_params"]:
        values["optimizer"]["updates"] = "once"
    return Recipe.model_validate(values)


def batch(kind: str, number: int, size: tuple[int, int], salt: str, dtype: torch.dtype) -> Batch:
    """Images of one iteration, and labels for the source."""
    h, w = size
    # The reference rounds image minus mean to float32; here the network subtracts it, in the run's
    # own precision.
    mean = torch.from_numpy(recipe.MEAN[::-1].copy()).view(1, 3, 1, 1)
    images = recipe.image(f"{kind}.img.{number}", 1, h, w, salt).float()
    if dtype == torch.float64:
        images = (images - mean).double() + mean.double()
    labels = None
    if kind == "src":
        shape = (1, -(-h // 8), -(-w // 8))
        coarse = recipe.generator(f"src.lab.{number}", salt).integers(0, CLASSES + 1, size=shape)
        coarse = torch.from_numpy(np.where(coarse == CLASSES, 255, coarse))
        labels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :h, :w]
    return Batch(images, labels)


def start(
    facts: dict[str, Any], variant: dict[str, Any], run: Recipe
) -> tuple[Segmenter, Retention, Adaptation]:
    """Network, retention and adaptation as the reference restores them from the variant's
    checkpoint.
    """
    salt, config = facts["salt"], run.steps[0]
    two = variant["checkpoint"] == "muhdi.pth"
    model = network(
        tuple(facts["layers"]), CLASSES, two_heads=two, multi_level=run.model.multi_level
    )
    model.load_state_dict(from_foreign(golden_weights(model, salt)))
    (head,) = trained_heads(config.retention, 1)
    context = MethodContext(model.classes, model.levels, head, torch.Generator())
    retention = config.retention.build(context)
    retention.begin(model, {}, NoBatches())
    retention.start_heads(model)
    if (
        "specialist" in model.heads and not two
    ):  # random in the reference, and given in the golden files
        fresh = from_foreign(
            {
                key: recipe.tensor(key, tuple(value.shape), f"{salt}init/")
                for key, value in to_reference(model.state_dict()).items()
            }
        )
        own = {k: v for k, v in fresh.items() if k.startswith("heads.specialist.")}
        model.load_state_dict(model.state_dict() | own)
    adaptation = config.adaptation.build(context)
    adaptation.begin(model, {}, NoBatches())
    for name, own in adaptation.own_networks().items():
        module = own.module
        prefix = name.lower() + "."
        module.load_state_dict(
            {
                k: recipe.tensor(k, tuple(v.shape), salt, prefix)
                for k, v in module.state_dict().items()
            }
        )
    return model, retention, adaptation


def under_the_references_names(losses: dict[str, torch.Tensor], run: Recipe) -> dict[str, float]:
    """Our weighted terms as what the reference prints.

    Without weights, levels of a distillation summed.
    """
    values = {name: float(value.detach()) for name, value in losses.items()}
    step = run.steps[0]
    muhdi = step.retention.method == "muhdi"
    end = "_spe" if muhdi else ""
    weights = {"main": step.weight_main, "aux": step.weight_aux}
    row = {}

    def put(name: str, weighted: float, weight: float, *, off_is_zero: bool = False) -> None:
        """A term whose weight is 0 cannot be compared, unless the reference leaves it out, too."""
        if weight or off_is_zero:
            row[name] = weighted / weight if weight else 0.0

    for level, weight in weights.items():
        put(f"loss_seg_src_{level}{end}", values.get(f"seg_{level}", 0.0), weight)
        put(
            f"loss_adv_trg_{level}",
            values.get(f"adv_{level}", 0.0),
            getattr(step.adaptation, f"weight_{level}"),
        )
        row[f"loss_d_{level}"] = values.get(f"d_{level}_target", 0.0)
    if muhdi:
        config: Any = step.retention
        put("feat_distill_loss", values.get("pod", 0.0), config.weight_pod, off_is_zero=True)
        source, target = (
            values.get(f"{kind}_main", 0.0) + values.get(f"{kind}_aux", 0.0)
            for kind in ("kd", "kt")
        )
        put("kt_distill_loss", source, config.weight_source, off_is_zero=True)
        put("loss_kt_trg", target, config.weight_target)
    return row


def statistics(
    before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]
) -> dict[str, list[float]]:
    """Mean, deviation and norm of each entry, and norm and sum of its change."""
    rows = {}
    for key, value in after.items():
        x, change = value.double(), value.double() - before[key].double()
        rows[key] = [
            float(f) for f in (x.mean(), x.std(correction=0), x.norm(), change.norm(), change.sum())
        ]
    return rows


def test_trajectory(golden: Path, variant: tuple[str, str]) -> None:
    """Every loss of every iteration, and in float64 every parameter and statistic at the end."""
    name, dtype = variant
    facts = read(golden, "e_trajectories.json")
    expected = facts["variants"][name][dtype]
    run = step_of(facts, expected)
    model, retention, adaptation = start(facts, expected, run)
    kind = getattr(torch, dtype)
    for module in (model, retention, adaptation):
        module.to(kind)
    # float32 shows the plain ways, which other devices compute in.
    accelerate(torch.nn.ModuleList([model, retention, adaptation]), enabled=dtype == "float64")
    networks = {
        "model": model,
        **{key.lower(): own.module for key, own in adaptation.own_networks().items()},
    }
    before = {
        key: {k: v.clone() for k, v in module.state_dict().items()}
        for key, module in networks.items()
    }
    freeze_affine(model)
    optimizer = build_optimizer(model, run.optimizer, run.steps[0].learning_rate)
    config, size = run.steps[0], tuple(facts["input_hw"])
    model.train()
    weights = {"main": config.weight_main, "aux": config.weight_aux}
    methods = Methods(adaptation, (retention,), weights)
    first, later, end = TOLERANCE[dtype]
    for i in range(facts["iterations"]):
        set_learning_rate(
            optimizer, poly(config.learning_rate, i, config.schedule, run.optimizer.power)
        )
        optimizer.zero_grad()
        for own in adaptation.own_networks().values():
            rate = poly(own.learning_rate, i, config.schedule, run.optimizer.power)
            set_learning_rate(own.optimizer, rate)
            own.optimizer.zero_grad()
        source, target = (batch(kind_, i, size, facts["salt"], kind) for kind_ in ("src", "trg"))
        losses = train_iteration(PlainRunner(model), methods.passes(source, [target]))
        optimizer.step()
        for own in adaptation.own_networks().values():
            own.optimizer.step()
        row = under_the_references_names(losses, run)
        assert row.keys() <= expected["losses"][i].keys()
        assert len(row) >= 6
        for key, value in row.items():
            tolerance = later if i else first
            # Distances of nearly equal maps are themselves rounding noise of float32.
            noise = 1e-15 if dtype == "float64" else 2e-7
            assert value == pytest.approx(expected["losses"][i][key], rel=tolerance, abs=noise), (
                i,
                key,
            )
    if "num_batches_tracked_bn1" in expected:
        assert int(model.backbone.bn1.num_batches_tracked) == expected["num_batches_tracked_bn1"]
    if end is not None:  # the losses were compared, whatever is missing now
        arrays = read(golden, "e_trajectories.npz")
        if not any(key.startswith(f"{name}/{dtype}/") for key in arrays):
            pytest.skip(f"e_trajectories.npz has no {name}/{dtype}; the losses agree")
        compare_the_end(facts, arrays, f"{name}/{dtype}", networks, before, end)


def compare_the_end(
    facts: dict,
    arrays: dict,
    prefix: str,
    networks: dict[str, torch.nn.Module],
    before: dict,
    tolerance: float,
) -> None:
    """Statistics of the networks after the last iteration."""
    head = (
        "muhdi"
        if is_muhdi(facts["variants"][prefix.split("/")[0]][prefix.split("/")[1]])
        else "deeplab"
    )
    for key, module in networks.items():
        if f"{prefix}/{key}" not in arrays:
            continue
        level = "ml" if len(networks) == 3 else "sl"
        names = facts["stats_keys"][f"{head}_{level}_{key}"]
        after, old = module.state_dict(), before[key]
        if key == "model":
            after, old = to_reference(after), to_reference(old)
        rows = statistics(old, {k: v for k, v in after.items() if k in names})
        own = np.array([rows[k] for k in names])
        expected = arrays[f"{prefix}/{key}"]
        scale = np.maximum(np.abs(expected), expected[:, 2:3] * 1e-6)  # a sum may cancel to nothing
        error = np.abs(own - expected) / np.maximum(scale, 1e-12)
        worst = np.unravel_index(error.argmax(), error.shape)
        assert error.max() < tolerance, (
            key,
            names[worst[0]],
            facts["stats_columns"][worst[1]],
            error.max(),
        )
