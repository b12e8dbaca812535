"""The foreign package as installed, and a recipe of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

ENTRY_POINTS = """[muhdi.adaptations]
masked_teacher = lanterns:MaskedTeacher
[muhdi.retentions]
anchors = lanterns:Anchors
[muhdi.backbones]
plain_net = lanterns:PlainNet
[muhdi.datasets]
stripes = lanterns:Stripes
"""


def write_lanterns(site: Path) -> Path:
    """The folder of the package, as pip would leave it."""
    info = site / "lanterns-2.5.dist-info"
    info.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("lanterns.py"), site / "lanterns.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lanterns\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (info / "top_level.txt").write_text("lanterns\n")
    (info / "RECORD").write_text("lanterns.py,,\nlanterns-2.5.dist-info/METADATA,,\n")
    return site


def path_with(site: Path) -> str:
    """A ``PYTHONPATH`` that holds the package and this project."""
    return os.pathsep.join([str(site), str(Path(__file__).parents[2])])


def write_foreign(folder: Path, **changes: object) -> Path:
    """A recipe that uses one class of each kind; keyword arguments replace its keys."""
    recipe = {
        "name": "foreign",
        "classes": ["dark", "light"],
        "image_size": [48, 32],
        "source": {"class": "lanterns:Stripes", "name": "lit"},
        "model": {"backbone": {"class": "lanterns:PlainNet", "width": 6}},
        "optimizer": {"name": "adamw", "head_factor": 1},
        "source_training": {"iterations": 3, "batch_size": 2, "learning_rate": 1e-3},
        "every_step": {
            "iterations": 4,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "adaptation": {"class": "lanterns:MaskedTeacher", "ratio": 0.25},
            "retention": {"class": "lanterns:Anchors"},
        },
        "steps": [
            {"target": {"class": "lanterns:Stripes", "name": "dim", "shade": 0.3}},
            {"target": {"class": "lanterns:Stripes", "name": "dark", "shade": 0.6}},
        ],
        "runtime": {"log_every": 1, "save_every": 2, "device": "cpu"},
        "evaluation": {"samples": 1},
    }
    path = folder / "foreign.yml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path
