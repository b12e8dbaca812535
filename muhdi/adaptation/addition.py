"""What any adaptation can have besides its own: further passes, further terms on the source."""

from __future__ import annotations

from muhdi.losses import Losses
from muhdi.method import Method
from muhdi.models.outputs import Outputs
from muhdi.passes import Batch


class Addition(Method):
    """A method beside the adaptation and the retention, which know nothing of it."""

    def on_source(self, outputs: Outputs, batch: Batch) -> Losses:
        """Loss terms on the source.

        Args:
            outputs: of the network, on the batch.
            batch: (a part of) the source's images with their labels.
        """
        return {}
