"""Networks without values, which say shapes and costs without computing anything."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def without_values(network: Network) -> Network:
    """A copy on PyTorch's ``meta`` device, for which no value is copied."""
    # What `deepcopy` finds in its memo counts as copied already.
    memo: dict[int, Any] = {}
    for weight in network.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return deepcopy(network, memo)
