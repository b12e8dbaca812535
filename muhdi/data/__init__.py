"""Data: the catalogue, reading and preparing images, drawn scenes, batches."""
