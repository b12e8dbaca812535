"""Adaptations: how the network learns the new target domain. One file each, one equation a file."""
