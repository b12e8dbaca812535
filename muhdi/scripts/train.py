"""The reference's training command.

``python train.py --cfg ./configs/gta2cityscapes_advent.yml``.
"""

from muhdi.cli.reference import run_train

if __name__ == "__main__":
    run_train(__file__)
