"""Parameters that weight decay is not meant for."""

from __future__ import annotations

import re

from torch import nn

_NORM = re.compile(r"(Norm(\dd)?|GRN)$")
"""Classes of norms; those of parameters with more than one dimension, too."""
_TERM = re.compile(
    r"pos_embed|position_embed|position_bias|relative_position|rel_pos|cpb_mlp|attention_bias"
    r"|(cls|class|dist|mask|reg|register)_tokens?$|layer_?scale|logit_scale"
)
"""Names of positions, tokens and scales, as timm and transformers call them."""


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: by batch, by layer, by group or however else."""
    named = _NORM.search(type(module).__name__) is not None
    return named or isinstance(module, nn.BatchNorm2d)


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters that are no weights.

    Norms, biases and whatever else has a single dimension, embeddings and tables of positions, the
    tokens of classes, registers and masks, and the scales of layers and of attention: the choice of
    BEiT (Bao et al. 2022), Swin (Liu et al. 2021) and DAFormer (Hoyer et al. 2022).
    """
    found: set[str] = set()
    for owner, part in module.named_modules():
        of_norm = is_norm(part)
        for own_name, parameter in part.named_parameters(recurse=False):
            name = f"{owner}.{own_name}" if owner else own_name
            is_term = own_name.endswith("bias") or _TERM.search(name) is not None
            if of_norm or is_term or parameter.ndim < 2:
                found.add(name)
    return found
