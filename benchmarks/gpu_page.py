"""What `benchmarks.gpu` measures, and docs/gpu.md, which shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.performance import paragraph
from muhdi.report.result_table import markdown

PAGE = Path(__file__).parents[1] / "docs" / "gpu.md"
GUIDE = Path(__file__).with_name("gpu_guide.md")
"""What the page says before its numbers; written by hand."""
USUAL = "bf16 + channels_last"
"""The way that is measured with images that are loaded."""
HEADER = ["iteration", "way", "seconds", "images/s", "peak GiB", "of the matrix rate"]
WHAT = """
    Whole iterations of a stage's trainer, written by `make bench-gpu` (`benchmarks/gpu.py`): MuHDi
    on AdvEnt with a ResNet-101 at 640x320, 1 + 1 images, and self-training of a SegFormer-B5 and of
    a DINOv2-B at 512x512, 2 + 2 images, AdamW; 19 classes, random weights, each as it is and with
    `precision: bf16-mixed`, `channels_last` and `compile`. Seconds are of an iteration on one batch
    that lies on the device; images are those of both domains; memory is what tensors took at most.
    *Of the matrix rate*: operations per second, of convolutions and products alone, relative to a
    product of two large matrices in the same precision."""
NOT_YET = """
    No GPU was at hand when this page was written: it holds no number. `make bench-gpu` fills it on
    a machine that has one. What one H100 did with an earlier version is in
    [scaling.md](scaling.md)."""
WAITING = f"""
    The same iterations ({USUAL}) with images that are loaded meanwhile: 640x320, or crops of
    512x512 from 1280x640, mirrored or not, with other colours. *Waits*: the share of the time that
    an iteration takes longer than on a batch that lies on the device."""


@dataclass(frozen=True)
class Row:
    """What was measured of an iteration.

    Attributes:
        work: its title.
        way: of `WAYS`.
        seconds: of an iteration on a batch that lies on the device.
        images: of both domains, per iteration.
        peak_mb: largest memory in MiB.
        flops: operations of an iteration, in convolutions and products.
        matrix_rate: operations per second of a product of large matrices in the same precision.
        error: why there is nothing else.
    """

    work: str
    way: str
    seconds: float = math.nan
    images: int = 0
    peak_mb: int = 0
    flops: int = 0
    matrix_rate: float = math.nan
    error: str = ""

    @property
    def share(self) -> float:
        """Of the rate at which the device multiplies matrices."""
        return self.flops / self.seconds / self.matrix_rate


@dataclass(frozen=True)
class Wait:
    """How long an iteration waits for its images.

    Attributes:
        work: title of the iteration.
        data: where they come from.
        seconds: of an iteration with them.
        alone: of an iteration on a batch that lies on the device.
    """

    work: str
    data: str
    seconds: float
    alone: float

    @property
    def share(self) -> float:
        """Of the time; 0 where it makes no difference."""
        return max(0.0, 1 - self.alone / self.seconds)


def page(result: dict[str, Any] | None) -> str:
    """The text of docs/gpu.md, of what was measured or of nothing."""
    parts = ["# On a GPU", GUIDE.read_text().strip(), "## What was measured", paragraph(WHAT)]
    if result is None:
        parts.append(paragraph(NOT_YET))
        return "\n\n".join(parts) + "\n"
    rates = ", ".join(
        f"{value / 1e12:.1f} in {precision}" for precision, value in result["rates"].items()
    )
    parts.append(
        paragraph(
            f"""Measured once on one {result["device"]}, PyTorch {result["torch"]}. A product of
            two large matrices runs at {rates} (10^12 operations per second), as PyTorch is set by
            default: float32 without TF32, which its convolutions use."""
        )
    )
    rows = [cells(Row(**row)) for row in result["rows"]]
    parts += [markdown(HEADER, rows), "### Waiting for images", paragraph(WAITING)]
    found = [Wait(**wait) for wait in result["waits"]]
    waiting = [
        [one.work, one.data, f"{one.seconds:.3f}", f"{one.alone:.3f}", f"{100 * one.share:.0f} %"]
        for one in found
    ]
    parts.append(markdown(["iteration", "images", "seconds", "alone", "waits"], waiting))
    return "\n\n".join(parts) + "\n"


def cells(row: Row) -> list[str]:
    """A row of the table."""
    if row.error:
        return [row.work, row.way, row.error, "", "", ""]
    return [
        row.work,
        row.way,
        f"{row.seconds:.3f}",
        f"{row.images / row.seconds:.1f}",
        f"{row.peak_mb / 1024:.1f}",
        f"{100 * row.share:.0f} %",
    ]
