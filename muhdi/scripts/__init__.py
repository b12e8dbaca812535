"""The commands as the reference documents them; run from this folder, or anywhere."""
