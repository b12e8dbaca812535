"""One iteration, end to end: the losses of the reference's training, iteration by iteration, in float64.

The golden runs whose optimizer lists every parameter once are followed here; 64x128 images, the reference's residual
net of eight blocks. What they call ``loss_d_*`` is the target's half only, so the discriminators are checked by what
they do to the next iteration's adversarial losses.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from muhdi.adaptation import build_adaptation
from muhdi.config import AdventConfig, MuHDiConfig, OptimizerConfig
from muhdi.data.loader import Batch
from muhdi.models.backbones import DilatedResNet
from muhdi.models.segmenter import AGNOSTIC, SPECIALIST, Segmenter
from muhdi.models.weights import initialise
from muhdi.retention import Retention, build_retention
from muhdi.training.optim import build_optimizer, poly, set_learning_rate
from muhdi.training.step import train_iteration
from tests import golden as recipe
from tests.test_models import reference_weights

ITERATIONS = 2


def batch(kind: str, number: int, size: tuple[int, int], salt: str) -> Batch:
    """Source or target images, and labels for the source."""
    h, w = size
    # The reference rounds image minus mean to float32; here the network subtracts it, in float64.
    mean = torch.from_numpy(recipe.MEAN[::-1].copy()).view(1, 3, 1, 1)
    images = (recipe.image(f"{kind}.img.{number}", 1, h, w, salt).float() - mean).double() + mean.double()
    labels = None
    if kind == "src":
        shape = (1, -(-h // 8), -(-w // 8))
        coarse = recipe.generator(f"src.lab.{number}", salt).integers(0, 8, size=shape)
        labels = (
            torch.from_numpy(np.where(coarse == 7, 255, coarse))
            .repeat_interleave(8, 1)
            .repeat_interleave(8, 2)[:, :h, :w]
        )
    return Batch(images, labels, [], {})


def losses_of(variant: dict, facts: dict, muhdi: bool, tmp_path: Path) -> list[dict[str, float]]:
    """Losses of the first iterations, without their weights, under the reference's names."""
    salt, size = facts["salt"], tuple(facts["input_hw"])
    override = variant["overrides"]
    model = Segmenter(DilatedResNet(tuple(facts["layers"])), 7, (AGNOSTIC, SPECIALIST) if muhdi else (AGNOSTIC,))
    torch.save(reference_weights(model, salt), tmp_path / "net.pth")
    initialise(model, tmp_path / "net.pth", "", ())
    model.double()
    adversarial = {"main": override.get("LAMBDA_ADV_MAIN", 0.001), "aux": override.get("LAMBDA_ADV_AUX", 0.0002)}
    config = AdventConfig(weight_main=adversarial["main"], weight_aux=adversarial["aux"], aux_sees_source=muhdi)
    kd, pod = override.get("DISTILL.KT_LAMBDA", 1e-5), override.get("DISTILL.FEAT_LAMBDA", 1e-5)
    retention = Retention()
    if muhdi:
        # The old model is the checkpoint's agnostic head; the new agnostic head starts as the old specialist.
        old = MuHDiConfig(weight_source=kd, weight_pod=pod, kl_reduction="element", old_statistics="running")
        retention = build_retention(old, model)
        model.heads[AGNOSTIC].load_state_dict(model.heads[SPECIALIST].state_dict())
    adaptation = build_adaptation(config, model, retention.learner, torch.Generator())
    for level in ("main", "aux"):
        discriminator = adaptation.discriminators[level]
        state = {
            k: recipe.tensor(k, tuple(v.shape), salt, f"d_{level}.") for k, v in discriminator.state_dict().items()
        }
        discriminator.load_state_dict(state)
    adaptation.double()
    optimizer = build_optimizer(model, OptimizerConfig(), 2.5e-4)
    model.train()
    rows = []
    for i in range(ITERATIONS):
        set_learning_rate(optimizer, poly(2.5e-4, i, facts["MAX_ITERS"], 0.9))
        set_learning_rate(adaptation.optimizer, poly(1e-4, i, facts["MAX_ITERS"], 0.9))
        optimizer.zero_grad()
        source, target = batch("src", i, size, salt), batch("trg", i, size, salt)
        losses = train_iteration(
            model, torch.Tensor.backward, model, adaptation, retention, source, target, {"main": 1.0, "aux": 0.1}
        )
        optimizer.step()
        values = {name: float(value.detach()) for name, value in losses.items()}
        end = "_spe" if muhdi else ""
        row = {f"loss_seg_src_main{end}": values["seg_main"], f"loss_seg_src_aux{end}": values["seg_aux"] / 0.1}
        row |= {f"loss_adv_trg_{level}": values[f"adv_{level}"] / adversarial[level] for level in ("main", "aux")}
        if muhdi:
            row["feat_distill_loss"] = values["pod"] / pod
            row["kt_distill_loss"] = (values["kd_main"] + values["kd_aux"]) / kd
            row["loss_kt_trg"] = values["kt_main"] + values["kt_aux"]
        rows.append(row)
    return rows


@pytest.mark.parametrize("name", ["advent_dedup", "muhdi_big_dedup"])
def test_losses_follow_the_references_training(golden: Path, tmp_path: Path, name: str) -> None:
    file = golden / "e_trajectories.json"
    if not file.exists() or name not in json.loads(file.read_text())["variants"]:
        pytest.skip(f"the variant {name} is not among the golden files")
    facts = json.loads(file.read_text())
    variant = facts["variants"][name]["float64"]
    rows = losses_of(variant, facts, name.startswith("muhdi"), tmp_path)
    for i, row in enumerate(rows):
        for key, value in row.items():
            assert value == pytest.approx(variant["losses"][i][key], rel=1e-9, abs=1e-15), (i, key)
