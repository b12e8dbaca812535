"""What a network starts from: a file of ours, of the reference, or of a backbone alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from muhdi.errors import DataError
from muhdi.models.average import WeightAverage
from muhdi.models.channels import with_channels
from muhdi.models.checkpoint import backbone_in, heads_in, is_ours, load_checkpoint
from muhdi.models.reference_weights import from_foreign
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import Statistics
from muhdi.models.tensor_files import Tensors, load_exactly, read_tensors
from muhdi.recipe.backbones import BackboneConfig, DecoderConfig
from muhdi.recipe.section import plain


@dataclass
class Initial:
    """What a file has given a network to start from.

    Attributes:
        heads: whether the file holds trained heads, not a backbone alone.
        statistics: by domain.
        memory: of methods.
        networks: methods' own ones.
        average: of the weights.
    """

    heads: bool
    statistics: dict[str, Statistics] = field(default_factory=dict)
    memory: dict[str, Tensors] = field(default_factory=dict)
    networks: dict[str, Tensors] = field(default_factory=dict)
    average: WeightAverage | None = None


def initialise(
    network: Segmenter, path: Path, backbone: BackboneConfig, classes: tuple[str, ...]
) -> Initial:
    """Start ``network`` from a file.

    The file is one of: a network of ours (backbone and classes must be the same), or one of the
    layouts that `muhdi.models.reference_weights` knows; where it holds a backbone alone, the heads
    stay as they are. Torchvision's networks expect RGB scaled to unit deviation, so the first
    convolution is converted to this network's BGR of 0..255 (and to further channels, see
    `muhdi.models.channels`); their stride is on a block's second
    convolution, here it is on the first, which fine-tuning has to absorb.

    Raises:
        MuhdiError: the file is missing or broken, or it fits in part only.
    """
    tensors, metadata = read_tensors(path)
    if is_ours(metadata):
        _check_same_backbone(path, backbone_in(path, tensors, metadata), backbone)
        return _continue_from(network, path, classes)
    renamed = network.backbone.renamed(tensors)
    state = from_foreign(tensors) if renamed is None else renamed
    heads = heads_in(state)
    if heads:
        network.set_heads({name: network.new_head() for name in heads})
    else:
        own = network.state_dict()
        state |= {key: value for key, value in own.items() if not key.startswith("backbone.")}
    load_exactly(network, with_channels(state, network.state_dict()), path)
    return Initial(bool(heads))


def _continue_from(network: Segmenter, path: Path, classes: tuple[str, ...]) -> Initial:
    """Start from a network of ours with the recipe's backbone, and take over what goes with it."""
    # The recipe's own section is trusted already; a file that names the same one is, too.
    checkpoint = load_checkpoint(path, trust_code=True)
    if checkpoint.classes != classes:
        raise DataError(
            f"{path}: it knows {len(checkpoint.classes)} classes "
            f"({', '.join(checkpoint.classes[:3])}, ...), the recipe has {len(classes)} "
            f"({', '.join(classes[:3])}, ...); set 'classes' to those of the network"
        )
    if checkpoint.network.channels != network.channels:
        raise DataError(
            f"{path}: it takes images of {checkpoint.network.channels} channels, the recipe's have"
            f" {network.channels}; set channels: {checkpoint.network.channels}, or give another"
            " model.init"
        )
    _check_same_decoder(path, checkpoint.network.decoder_config, network.decoder_config)
    network.set_heads({name: network.new_head() for name in checkpoint.network.heads})
    load_exactly(network, checkpoint.network.state_dict(), path)
    return Initial(
        True,
        checkpoint.statistics,
        checkpoint.memory,
        checkpoint.networks,
        checkpoint.average,
    )


def _check_same_decoder(path: Path, found: DecoderConfig, wanted: DecoderConfig) -> None:
    """Refuse a network whose decoder is not the recipe's."""
    if found == wanted:
        return
    options = plain(found)
    shown = options["name"] if len(options) == 1 else json.dumps(options)
    raise DataError(
        f"{path}: its decoder is {shown}, the recipe's is {json.dumps(plain(wanted))}; set"
        f" model.decoder={shown}"
    )


def _check_same_backbone(path: Path, found: BackboneConfig, wanted: BackboneConfig) -> None:
    """Refuse a network whose backbone is not the recipe's, or is the same with another option."""
    if found.key != wanted.key:
        raise DataError(
            f"{path}: its backbone is {found.key!r}, the recipe's is {wanted.key!r}; set "
            f"model.backbone={found.key} or give another model.init"
        )
    options = plain(found)
    wanted_options = plain(wanted)
    for key in options | wanted_options:
        if key in wanted.of_starts or (key in wanted.recorded and key not in wanted_options):
            continue
        if options.get(key) != wanted_options.get(key):
            raise DataError(
                f"{path}: its backbone {found.key!r} has {key} {options.get(key)!r}, the recipe's"
                f" has {wanted_options.get(key)!r}; set model.backbone.{key} or give another"
                " model.init"
            )
