"""The two commands that the reference documents, with its options, its defaults and its folders.

``data``, ``pretrained_models`` and ``experiments`` lie under the root, two folders above the
script. A ``--cfg`` file that does not exist stands for the shipped recipe of its name; upper-case
files of the reference's own are read too.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.common import Set, run
from muhdi.cli.networks import print_scores
from muhdi.cli.training import train_and_print
from muhdi.recipe.load import load_recipe, shipped_recipes
from muhdi.recipe.schema import Recipe, RuntimeConfig

Cfg = Annotated[
    str,
    typer.Option(
        "--cfg", help="A recipe or a configuration of the reference; or a shipped one's name."
    ),
]
Suffix = Annotated[
    Optional[str], typer.Option("--exp-suffix", help="Appended to the experiment's name.")
]


def run_train(script: str) -> None:
    """``train.py``; ``script`` is its path."""
    root = _root(script)

    def train(
        cfg: Cfg,
        exp_suffix: Suffix = None,
        random_train: Annotated[
            bool, typer.Option("--random-train", help="Draw a seed instead of a fixed one.")
        ] = False,
        tensorboard: Annotated[
            bool, typer.Option("--tensorboard", help="Events are always written.")
        ] = False,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on with an interrupted run.")
        ] = False,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Start anew where the run exists.")
        ] = False,
        settings: Set = [],  # noqa: B006 - typer reads the default
    ) -> None:
        """Train as the reference's documentation says."""
        seed = [f"seed={secrets.randbelow(2**31)}"] if random_train else []
        recipe = _load(cfg, root, exp_suffix, [*seed, *settings])
        if random_train:
            typer.echo(f"seed: {recipe.seed}")
        train_and_print(recipe, None, resume=resume, overwrite=overwrite)

    _run(train)


def run_test(script: str) -> None:
    """``test.py``; ``script`` is its path."""
    root = _root(script)

    def test(
        cfg: Cfg,
        exp_suffix: Suffix = None,
        settings: Set = [],  # noqa: B006 - typer reads the default
    ) -> None:
        """Test as the reference's documentation says."""
        from muhdi.workflows.evaluate import evaluate

        recipe = _load(cfg, root, exp_suffix, settings)
        results = evaluate(recipe)
        print_scores(results, results.notes)

    _run(test)


def _run(command: object) -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)  # type: ignore[type-var]
    run(app)


def _root(script: str) -> Path:
    return Path(script).absolute().parents[2]


def _load(cfg: str, root: Path, suffix: str | None, settings: list[str]) -> Recipe:
    """The recipe of ``--cfg``, whose relative paths begin at the root."""
    name = Path(cfg).stem
    path = cfg if Path(cfg).exists() or name not in shipped_recipes() else name
    recipe = load_recipe(path, settings)
    changes = {}
    for key, folder in (
        ("root", root),
        ("snapshots", root / "experiments/snapshots"),
        ("logs", root / "experiments/logs"),
    ):
        if getattr(recipe.runtime, key) == RuntimeConfig.model_fields[key].default:
            changes[f"runtime.{key}"] = str(folder)
    if suffix:
        changes["name"] = f"{recipe.name}_{suffix}"
    own = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    return load_recipe(path, [*settings, *own])
