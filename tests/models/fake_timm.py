"""A package like timm with a few small networks, for environments without timm and torchvision."""

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
    def __init__(self, width=8, drop_path_rate=0.0, out_indices=(0, 1, 2), in_chans=3):
        super().__init__()
        self.feature_info = [{{"reduction": 4 * 2**i}} for i in range(3)]
        self.stem = self.first(in_chans, width)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 2, 2) for _ in range(2))
        self.out_indices = out_indices
        self.output_fmt = "NHWC"

    def first(self, channels, width):
        return nn.Conv2d(channels, width, 4, 4)

    def group_matcher(self, coarse):
        return {{"stem": 0, "blocks.0": 1, "blocks.1": 2}}

    def forward(self, x):
        maps = [self.stem(x)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return [maps[i].permute(0, 2, 3, 1) for i in self.out_indices]


class Colours(Tiny):
    def __init__(self, out_indices=(0, 1, 2)):
        super().__init__(out_indices=out_indices)


class Unfolded(Tiny):
    def first(self, channels, width):
        unfolded = nn.Conv2d(16 * channels, width, 1)
        return nn.Sequential(nn.PixelUnshuffle(4), unfolded)

    def group_matcher(self, coarse):
        return {{"stem.1": 0, "blocks.0": 1, "blocks.1": 2}}


NETWORKS = {{"tiny": Tiny, "colours": Colours, "unfolded": Unfolded}}


def create_model(
    name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, features_only=False,
    **options,
):
    network = NETWORKS[name.partition(".")[0]](**options)
    network.pretrained_cfg = CONFIGURATION | (pretrained_cfg or {{}})
    if pretrained and pretrained_cfg_overlay:
        network.load_state_dict(pretrained_cfg_overlay["state_dict"])
    return network


def is_model(name):
    return name in NETWORKS


def list_models(include_tags=False):
    return list(NETWORKS)


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
