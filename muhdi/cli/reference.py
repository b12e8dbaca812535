"""The two commands of the reference, with its options, its defaults and its folders.

``data``, ``pretrained_models`` and ``experiments`` are under the root, two folders above the
script. If the file of ``--cfg`` does not exist, the shipped recipe of its name is used. The
reference's own upper-case files are read, too.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.options import OverwriteRun, Resume, Set
from muhdi.cli.output import print_run, print_scores
from muhdi.cli.run import run
from muhdi.recipe.load import load_recipe, shipped_recipes
from muhdi.recipe.runtime import RuntimeConfig
from muhdi.recipe.schema import Recipe

Cfg = Annotated[
    str,
    typer.Option(
        "--cfg", help="A recipe, a configuration of the reference, or the name of a shipped recipe."
    ),
]
Suffix = Annotated[
    Optional[str], typer.Option("--exp-suffix", help="Appended to the experiment's name.")
]
RandomTrain = Annotated[
    bool, typer.Option("--random-train", help="Draw a seed instead of using a fixed one.")
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Events are always written.")]


def run_train(script: str) -> None:
    """Run ``train.py``.

    Args:
        script: its path.
    """
    root = _root(script)

    def train(
        cfg: Cfg,
        exp_suffix: Suffix = None,
        random_train: RandomTrain = False,
        tensorboard: TensorBoard = False,
        resume: Resume = False,
        overwrite: OverwriteRun = False,
        settings: Set = [],  # noqa: B006 - typer reads the default
    ) -> None:
        """Train as the reference's documentation describes it."""
        from muhdi import distributed
        from muhdi.workflows.train import train as run_training

        seed = [f"seed={secrets.randbelow(2**31)}"] if random_train else []
        recipe = _load(cfg, root, exp_suffix, [*seed, *settings])
        if random_train:
            typer.echo(f"seed: {recipe.seed}")
        results = run_training(recipe, resume=resume, overwrite=overwrite)
        if distributed.is_rank_zero():
            print_run(results, recipe, None)

    _run(train)


def run_test(script: str) -> None:
    """Run ``test.py``.

    Args:
        script: its path.
    """
    root = _root(script)

    def test(
        cfg: Cfg,
        exp_suffix: Suffix = None,
        settings: Set = [],  # noqa: B006 - typer reads the default
    ) -> None:
        """Test as the reference's documentation describes it."""
        from muhdi.workflows.evaluate import evaluate

        print_scores(evaluate(_load(cfg, root, exp_suffix, settings)))

    _run(test)


def _run(command: Callable[..., None]) -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run(app)


def _root(script: str) -> Path:
    return Path(script).absolute().parents[2]


def _load(cfg: str, root: Path, suffix: str | None, settings: list[str]) -> Recipe:
    """The recipe of ``--cfg``, whose relative paths start at the root."""
    name = Path(cfg).stem
    path = cfg if Path(cfg).exists() or name not in shipped_recipes() else name
    recipe = load_recipe(path, settings)
    folders = {
        "root": root,
        "snapshots": root / "experiments/snapshots",
        "logs": root / "experiments/logs",
    }
    changes = []
    for key, folder in folders.items():
        if getattr(recipe.runtime, key) == RuntimeConfig.model_fields[key].default:
            changes.append(_setting(f"runtime.{key}", str(folder)))
    if suffix:
        changes.append(_setting("name", f"{recipe.name}_{suffix}"))
    return load_recipe(path, [*settings, *changes])


def _setting(key: str, value: str) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
