"""Images and labels in a few large files, which may lie anywhere."""
