"""What a process of `test_processes.py` does: every combination of adaptation and retention, one run after another.

torchrun --nproc-per-node 2 -m tests.processes EXPERIMENTS [key=value ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from muhdi.config import Recipe
from muhdi.recipe import load_recipe
from muhdi.training.sequence import run_sequence

ADAPTATIONS = ("none", "minent", "advent", "selftrain", "oracle")
RETENTIONS = ("none", "distill", "muhdi")


def recipe(adaptation: str, retention: str, *settings: str) -> Recipe:
    """Five iterations after one on the source; images are drawn, so that nothing is needed."""
    base = Path(__file__).with_name("processes.yml")
    method = "{method: advent, width: 4}" if adaptation == "advent" else adaptation
    methods = [f"every_step.adaptation={method}", f"every_step.retention={retention}"]
    recipe = load_recipe(base, [*methods, *settings])
    return recipe.model_copy(update={"name": f"{adaptation}_{retention}"})


def run_all(experiments: Path, *settings: str) -> None:
    """Every combination, in float64: Adam turns the rounding of a float32 gradient near 0 into a whole step."""
    torch.set_default_dtype(torch.float64)
    try:
        for adaptation in ADAPTATIONS:
            for retention in RETENTIONS:
                run_sequence(recipe(adaptation, retention, *settings), experiments, quiet=True)
    finally:
        torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_all(Path(sys.argv[1]), *sys.argv[2:])
