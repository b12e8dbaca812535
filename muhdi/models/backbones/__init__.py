"""Backbones: images in, features out."""
