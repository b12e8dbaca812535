"""Retentions: how the network keeps the domains that it has learned. One file each."""
