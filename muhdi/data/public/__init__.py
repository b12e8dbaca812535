"""Public data sets: where their files are, and what their labels mean."""
