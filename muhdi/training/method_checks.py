"""What the loop asks of a method, and the message if it is something else."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from muhdi.errors import RunError
from muhdi.losses import Losses
from muhdi.method import Memory, Method

RECORD_KEYS = ("stage", "iteration", "skipped")
"""What a line of ``metrics.jsonl`` holds besides losses."""
NETWORK_FILE = "model"
"""How the file of the network itself begins."""


def class_name(method: Method) -> str:
    """What messages call a method: ``package.module:Name``."""
    return f"{type(method).__module__}:{type(method).__qualname__}"


def checked(method: Method, losses: Losses) -> Losses:
    """The loss terms of a method, if they are what they must be.

    Raises:
        RunError: they are not scalars by name, or one carries no gradient; the message names the
            method's class.
    """
    name = class_name(method)
    if not isinstance(losses, dict):
        raise RunError(f"{name}: must return losses as a dict of names and scalars")
    for term, loss in losses.items():
        if term in RECORD_KEYS:
            raise RunError(
                f"{name}: a loss must not be called {term!r}, as a key of the record is; rename it"
            )
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise RunError(f"{name}: its loss {term!r} is not a scalar tensor")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise RunError(
                f"{name}: its loss {term!r} carries no gradient, so nothing is learned from it; "
                "compute it from the outputs that it is given, without detach()"
            )
    return losses


def checked_memory(method: Method, memory: Memory) -> Memory:
    """What a method remembers, if it is what it must be.

    Raises:
        RunError: it is not tensors by name; the message names the method's class.
    """
    good = isinstance(memory, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in memory.items()
    )
    if not good:
        raise RunError(f"{class_name(method)}: end() must return a dict of names and tensors")
    return memory


def check_own_networks(methods: Sequence[Method]) -> None:
    """Refuse what could not be trained, or not be saved under a name of its own.

    Raises:
        RunError: two networks have one name, a name cannot be a file's, or a parameter belongs to
            no own network; the message names the method's class.
    """
    taken = {NETWORK_FILE}
    for method in methods:
        held: set[int] = set()
        for name, own in method.own_networks().items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in taken:
                raise RunError(
                    f"{class_name(method)}: its own network {name!r} needs another name: letters "
                    f"and digits, and none of {', '.join(sorted(taken))}"
                )
            taken.add(name)
            held |= {id(parameter) for parameter in own.module.parameters()}
        for name, parameter in method.named_parameters():
            if parameter.requires_grad and id(parameter) not in held:
                raise RunError(
                    f"{class_name(method)}: its parameter {name!r} is in no own network, so "
                    "nothing would train it; return it from own_networks(), or freeze it with "
                    "requires_grad_(False)"
                )
