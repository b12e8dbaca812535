"""Random numbers of a method: the same ones whatever the number of processes and the device."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from muhdi import distributed


class Draws:
    """Numbers for the images of a batch, from the method's generator on the CPU.

    Every process draws for the images of all of them and takes its own. Numbers go to the device
    and nothing comes back, so nobody waits for it.

    Args:
        generator: on the CPU; its state is saved with the run.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, like: Tensor, *shape: int, together: bool = False) -> Tensor:
        """Numbers from 0 to 1.

        Args:
            like: a batch; its length and device count.
            shape: for each image.
            together: whether all images get the same ones.

        Returns:
            float32 [N, *shape].
        """
        count = len(like)
        if together:
            one = torch.rand(1, *shape, generator=self.generator)
            return one.to(like.device, non_blocking=True).expand(count, *shape)
        everywhere = torch.rand(count * distributed.world_size(), *shape, generator=self.generator)
        own = torch.stack(list(distributed.local_slice(everywhere.unbind())))
        return own.to(like.device, non_blocking=True)


class HostDraws(nn.Module):
    """Numbers for decisions of the host, the same ones in every process.

    They are made from a seed and a count, both saved with the run: no tensor is read for them.

    Args:
        generator: of the method, on the CPU; the seed is drawn from it.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        (self.seed,) = torch.randint(2**62, (1,), generator=generator).tolist()
        self.count = 0

    def next(self) -> Random:
        """The numbers of one iteration."""
        self.count += 1
        return Random(f"{self.seed} {self.count}")

    def get_extra_state(self) -> dict[str, Any]:
        """What is saved."""
        return {"seed": self.seed, "count": self.count}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """What `get_extra_state` gave."""
        self.seed = state["seed"]
        self.count = state["count"]
