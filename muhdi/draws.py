"""Random numbers of a method: the same ones whatever the number of processes and the device."""

from __future__ import annotations

import torch
from torch import Tensor

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
