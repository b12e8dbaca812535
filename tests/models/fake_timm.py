"""A package like timm with one small network, for environments without timm and torchvision."""

from __future__ import annotations

from pathlib import Path

VERSION = "1.0.31"
SOURCE = """
from types import SimpleNamespace
from torch import nn

__version__ = "{version}"
CONFIGURATION = {{
    "tag": "few", "input_size": (3, 32, 32), "fixed_input_size": False,
    "mean": (0.5, 0.25, 0.125), "std": (0.5, 0.5, 0.25),
}}


class Tiny(nn.Module):
    def __init__(self, width=8, drop_path_rate=0.0, out_indices=(0, 1, 2)):
        super().__init__()
        self.feature_info = [{{"reduction": 4 * 2**i}} for i in range(3)]
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 2, 2) for _ in range(2))
        self.out_indices = out_indices
        self.output_fmt = "NHWC"

    def group_matcher(self, coarse):
        return {{"stem": 0, "blocks.0": 1, "blocks.1": 2}}

    def forward(self, x):
        maps = [self.stem(x)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return [maps[i].permute(0, 2, 3, 1) for i in self.out_indices]


def create_model(
    name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, features_only=False,
    **options,
):
    network = Tiny(**options)
    network.pretrained_cfg = CONFIGURATION | (pretrained_cfg or {{}})
    return network


def is_model(name):
    return name == "tiny"


def list_models(include_tags=False):
    return ["tiny"]


def list_pretrained(pattern):
    return ["tiny.few"]


def get_pretrained_cfg(name):
    return SimpleNamespace(
        hf_hub_id="timm/tiny.few", hf_hub_filename=None, has_weights=True, license="cc-by-nc-4.0"
    )


def group_parameters(network, matcher, reverse):
    names = [name for name, _ in network.named_parameters()]
    return {{name: matcher[name.rpartition(".")[0]] for name in names}}


models = SimpleNamespace(group_parameters=group_parameters)
"""


def write_timm(folder: Path, *, version: str = VERSION, fails: str = "") -> None:
    """Write the package.

    Args:
        folder: where it is looked for.
        version: its own.
        fails: what importing it does instead, a statement.
    """
    package = folder / "timm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(fails or SOURCE.format(version=version))
