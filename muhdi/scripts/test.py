"""The reference's test command: ``python test.py --cfg ./configs/gta2cityscapes_advent.yml``."""

from muhdi.cli.reference import run_test

if __name__ == "__main__":
    run_test(__file__)
