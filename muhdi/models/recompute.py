"""Activation checkpointing: parts of a network are computed again in the backward pass.

Only what goes into a part is kept until then, so that less memory is needed and the time of one
more forward pass. Random numbers are drawn again as they were, and batch norms remember a batch
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Contexts = tuple[AbstractContextManager[None], AbstractContextManager[None]]
"""Around the first computation, and around the second."""


def recomputed(part: nn.Module, x: Tensor) -> Tensor:
    """What a part gives for ``x``; if a backward pass follows, it is computed again there."""
    if not torch.is_grad_enabled():
        return part(x)  # type: ignore[no-any-return]
    given: Tensor = checkpoint(part, x, use_reentrant=False, context_fn=contexts_of(part))
    return given


def contexts_of(part: nn.Module) -> Callable[[], Contexts]:
    """What PyTorch asks for as ``context_fn``, for a part or a network around it."""
    return lambda: (nullcontext(), _norms_at_rest(part))


@contextmanager
def _norms_at_rest(part: nn.Module) -> Iterator[None]:
    """Inside, batch norms compute as before, and remember nothing."""
    norms = [module for module in part.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Without a momentum the running statistics stay; their number must not rise either.
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked = count
