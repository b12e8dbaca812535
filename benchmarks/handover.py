"""Exported files against `muhdi predict` on real photos at their own size.

    MUHDI_CAMVID=FOLDER python -m benchmarks.handover [--iterations 300] [--json FILE]

A small network is trained on CamVid's day sequence at 240x180, exported to ONNX and torch.export,
and each file predicts the validation images of all three sequences at their own 480x360. Reported
are the share of pixels of the same class as `muhdi predict` gives, and both mIoUs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import muhdi
from muhdi.evaluation.metrics import mean_iou
from muhdi.evaluation.predict import confusion_matrix

SEQUENCES = (
    "source_camvid_day_0016E5",
    "target1_camvid_bright_0006R0",
    "target2_camvid_dusk_0001TP",
)
Classes = Callable[[torch.Tensor], torch.Tensor]
"""Images uint8 [1, 3, H, W] -> classes [1, H, W]."""


def onnx_classes(path: Path) -> Classes:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def pt2_classes(path: Path) -> Classes:
    program = torch.export.load(path).module()
    return lambda images: program(images)


def compare(predictor: muhdi.Predictor, exported: Classes, folder: Path) -> dict[str, float]:
    """Agreement and both mIoUs, in percent, on one sequence."""
    classes = len(predictor.classes)
    same = 0
    pixels = 0
    confusions = [np.zeros((classes, classes), np.int64) for _ in range(2)]
    for file in sorted((folder / "val/images").glob("*.jpg")):
        image = np.array(Image.open(file).convert("RGB"))
        label = torch.from_numpy(np.array(Image.open(folder / f"val/labels/{file.stem}.png")))
        expected = torch.from_numpy(predictor.predict(image).ids)
        given = exported(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous())[0]
        same += int((expected == given).sum())
        pixels += expected.numel()
        for confusion, found in zip(confusions, (expected, given), strict=True):
            confusion += confusion_matrix(found.long(), label, classes).numpy()
    scores = [100 * (mean_iou(confusion) or 0.0) for confusion in confusions]
    return {
        "same_percent": 100 * same / pixels,
        "predict_miou": scores[0],
        "exported_miou": scores[1],
    }


def main() -> None:
    """Train, export, compare, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = Path(os.environ.get("MUHDI_CAMVID", ""))
    if not (data / SEQUENCES[0]).is_dir():
        sys.exit("MUHDI_CAMVID: must be the folder of the three sequences of CamVid")
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        recipe = muhdi.Recipe.load(
            "camvid_source",
            seed=1,
            **{"source_training.iterations": options.iterations, "runtime.device": "cpu"},
        )
        muhdi.train(recipe, folder, quiet=True)
        run = Path(folder, "snapshots", recipe.name)
        for statistics in ("running", "image"):
            predictor = muhdi.Predictor.load(run, statistics=statistics, device="cpu")
            for ending, read in (("onnx", onnx_classes), ("pt2", pt2_classes)):
                path = Path(folder, f"{statistics}.{ending}")
                muhdi.export(run, str(path), statistics=statistics, output="classes")
                exported = read(path)
                for sequence in SEQUENCES:
                    row = compare(predictor, exported, data / sequence)
                    name = sequence.split("_")[2]
                    table[f"{ending} {statistics} {name}"] = row
                    print(f"{ending} {statistics} {name}", {k: round(v, 3) for k, v in row.items()})
    if options.json:
        options.json.write_text(
            json.dumps({"iterations": options.iterations, "rows": table}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
