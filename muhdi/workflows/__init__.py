"""One file per verb; the command line and Python call the same function."""
