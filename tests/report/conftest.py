"""The foreign package, whose network has no batch norm."""

from tests.plugins.conftest import foreign, lanterns

__all__ = ["foreign", "lanterns"]
