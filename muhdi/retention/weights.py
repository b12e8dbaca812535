"""The weights that retentions hold on to, and tensors beside them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from muhdi.models.outputs import AGNOSTIC
from muhdi.models.segmenter import Segmenter

_KEPT = f"heads.{AGNOSTIC}."


def trained_weights(network: Segmenter) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name, without those of specialists.

    These heads start anew in every step: there is nothing to hold them to.
    """
    return {
        name: weight
        for name, weight in network.named_parameters()
        if weight.requires_grad and (name.startswith(_KEPT) or not name.startswith("heads."))
    }


class NamedTensors(nn.Module):
    """Tensors by the dotted names of parameters, kept as buffers: saved, and moved to devices."""

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the tensors in."""
        for name, value in tensors.items():
            self.register_buffer(self._key(name), value.detach().clone())

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self._buffers

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(self._key(name))

    @staticmethod
    def _key(name: str) -> str:
        return name.replace(".", "/")  # a buffer's name must not hold dots
