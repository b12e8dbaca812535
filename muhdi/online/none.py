"""Plain prediction, the control."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from muhdi.online.base import Online, OnlineContext
from muhdi.recipe.online import NoOnlineConfig


class NoOnline(Online):
    """The network predicts, and stays as it is."""

    config_class = NoOnlineConfig

    def __init__(self, config: Any, context: OnlineContext) -> None:
        super().__init__(config, context)
        self.inference = context.inference(context.statistics)

    def observe(self, images: Tensor) -> Tensor:
        return self.predict(images)

    def reset(self) -> None:
        """There is nothing to forget."""
