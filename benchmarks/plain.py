"""One MuHDi iteration written the obvious way: what `benchmarks/iteration.py` compares ours with.

The old model keeps its graph, cross entropy selects the valid pixels, local POD loops over its
cells, every classifier is four dilated convolutions, discriminators run once per use, and the
optimizer lists parameters repeatedly. The mathematics is that of the reference's recipes.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.models.segmenter import Segmenter
from muhdi.training.optim import multiplicity

AUX, ADV = 0.1, {"aux": 0.0002, "main": 0.001}


class PlainNetwork(nn.Module):
    """The same weights as a `Segmenter`, without its shortcuts.

    Image -> stages, and logits by head and level.
    """

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone)
        self.heads = copy.deepcopy(model.heads)

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], dict[str, dict[str, Tensor]]]:
        stages = self.backbone(images)
        return stages, {
            n: {"aux": h.aux(stages[2]), "main": h.main(stages[3])} for n, h in self.heads.items()
        }


class PlainIteration:
    """MuHDi on AdvEnt from a network with two heads.

    Args:
        model: the network at the start of the step, both heads in place.
        old: the network that teaches.
        discriminators: by level.
        weights: of the source's KL and of POD.
        learning_rate: of the backbone; the heads learn ten times as fast.
    """

    def __init__(
        self, model: Segmenter, old: Segmenter, discriminators: nn.ModuleDict, weights: tuple[float, float],
        learning_rate: float,
    ) -> None:  # fmt: skip
        self.net, self.old = PlainNetwork(model).train(), PlainNetwork(old).eval()
        self.discriminators = copy.deepcopy(discriminators).requires_grad_(True)
        self.kd, self.pod = weights
        listed = [
            p
            for n, p in self.net.backbone.named_parameters()
            if p.requires_grad
            for _ in range(multiplicity(n))
        ]
        groups = [
            {"params": listed},
            {"params": list(self.net.heads.parameters()), "lr": 10 * learning_rate},
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the repetition is meant
            self.optimizer = torch.optim.SGD(
                groups, learning_rate, momentum=0.9, weight_decay=5e-4, foreach=False
            )
        self.own = torch.optim.Adam(
            self.discriminators.parameters(), 1e-4, betas=(0.9, 0.99), foreach=False
        )

    def __call__(self, source: Tensor, labels: Tensor, target: Tensor) -> dict[str, float]:
        """Train on one batch of each domain; every loss as the reference prints it."""
        self.optimizer.zero_grad()
        self.own.zero_grad()
        losses: dict[str, Any] = {}
        size = source.shape[-2:]

        stages, heads = self.net(source)
        old_stages, old_heads = self.old(source)
        up_source = {level: _up(x, size) for level, x in heads["specialist"].items()}
        losses |= {f"seg_{level}": _cross_entropy(x, labels) for level, x in up_source.items()}
        losses["kd"] = sum(
            w * _kl(old_heads["agnostic"][k], heads["agnostic"][k])
            for k, w in (("main", 1), ("aux", AUX))
        )
        losses["pod"] = _pod(old_stages, stages)
        total = (
            losses["seg_main"]
            + AUX * losses["seg_aux"]
            + self.kd * losses["kd"]
            + self.pod * losses["pod"]
        )
        total.backward()

        _, heads = self.net(target)
        up_target = {level: _up(x, target.shape[-2:]) for level, x in heads["specialist"].items()}
        for level, x in up_target.items():
            losses[f"adv_{level}"] = _bce(
                self.discriminators[level](_entropy(F.softmax(x, 1))), 0.0
            )
        losses["kt"] = sum(
            w * _kl(up_target[k].detach(), _up(heads["agnostic"][k], target.shape[-2:]))
            for k, w in (("main", 1), ("aux", AUX))
        )
        total = ADV["main"] * losses["adv_main"] + ADV["aux"] * losses["adv_aux"] + losses["kt"]
        total.backward()

        self.own.zero_grad()
        for level in ("aux", "main"):
            for name, x, label in (("source", up_source, 0.0), ("target", up_target, 1.0)):
                loss = (
                    _bce(
                        self.discriminators[level](_entropy(F.softmax(x[level].detach(), 1))), label
                    )
                    / 2
                )
                loss.backward()
                losses[f"d_{level}_{name}"] = loss
        self.optimizer.step()
        self.own.step()
        return {name: float(value.detach()) for name, value in losses.items()}


def _up(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    n, c, h, w = logits.shape
    valid = (labels >= 0) & (labels != 255)
    pixels = (
        logits.permute(0, 2, 3, 1)
        .contiguous()[valid.view(n, h, w, 1).repeat(1, 1, 1, c)]
        .view(-1, c)
    )
    return F.cross_entropy(pixels, labels[valid])


def _kl(taught: Tensor, learnt: Tensor) -> Tensor:
    c = taught.shape[1]
    a, b = (x.permute(0, 2, 3, 1).contiguous().view(-1, c) for x in (taught, learnt))
    p, q = F.softmax(a, 1), F.softmax(b, 1)
    return (p * (torch.log(p) - torch.log(q))).mean()


def _entropy(p: Tensor) -> Tensor:
    return -p * torch.log2(p + 1e-30) / torch.log2(torch.tensor(float(p.shape[1])))


def _bce(scores: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def _pod(old: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> Tensor:
    distances = [
        torch.norm(_cells(a**2) - _cells(b**2), dim=1).mean() for a, b in zip(old, new, strict=True)
    ]
    return torch.stack(distances).mean()


def _cells(x: Tensor) -> Tensor:
    parts = []
    for scale in (1, 2, 4):
        h, w = x.shape[2] // scale, x.shape[3] // scale
        for i in range(scale):
            for j in range(scale):
                cell = x[:, :, i * h : (i + 1) * h, j * w : (j + 1) * w]
                parts += [cell.mean(3).flatten(1), cell.mean(2).flatten(1)]
    return torch.cat(parts, 1)
