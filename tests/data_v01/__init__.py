"""A small run of version 0.1, as it left it (but for its training states and earlier networks)."""
