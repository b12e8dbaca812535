"""Networks, their normalisation statistics, and their files."""
