"""``python -m muhdi``."""

from muhdi.cli import main

main()
