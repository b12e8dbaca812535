"""A demo: what adaptation gains, what is forgotten, and what is kept, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from muhdi.errors import RecipeError
from muhdi.preflight.demo import demo_recipe
from muhdi.recipe.schema import Recipe
from muhdi.report.demo import Demo, write_demo
from muhdi.report.run_files import read_run
from muhdi.workflows.sweep import OnProgress, sweep
from muhdi.workflows.sweeps.schedule import Log

PAGE = "demo.html"
SEED = 41
"""Of the demo; no setting was chosen on it."""
SHIPPED = {"sequential": "scenes2_selftrain", "kept": "scenes2_selftrain_style"}
"""Shipped recipes, and what the page calls them."""
QUICK = ("evaluation.statistics=[image]", "evaluation.default=image")
"""Changes of the shipped recipes: one choice of statistics is shown, so no other is computed."""
RETENTIONS = {"sequential": "none", "kept": "style"}
"""How the same arms differ on one's own folders."""


def demo(  # noqa: PLR0913 - options by name
    output: Path | str = Path("demo"),
    *,
    seeds: Sequence[int] = (SEED,),
    settings: Sequence[str] = (),
    jobs: int | None = None,
    real: Path | str | None = None,
    log: Log = print,
    on_progress: OnProgress = lambda done, total: None,
) -> Demo:
    """Train on a source, then on one new place after another, without and with what keeps the old.

    The scenes are drawn, day -> snow -> wet night -> abroad -> snow again, and need no file.

    Args:
        output: folder of the runs and of ``demo.html``.
        seeds: of drawing and training; the pictures are of the first.
        settings: ``key=value`` changes of all recipes.
        jobs: processes at a time; None: one per GPU, or per core where there is no GPU.
        real: a folder that holds two or three folders of images, see
            `muhdi.preflight.demo.demo_recipe`; None: the drawn scenes.
        log: called with a line for every run that starts or ends, and with notes.
        on_progress: as of `sweep`.

    Raises:
        MuhdiError: a setting or a folder is wrong, or a run failed.
        Interrupted: after a signal. All runs are saved, and the same call resumes them.
    """
    output = Path(output)
    recipes: dict[str, Recipe | str] = dict(SHIPPED)
    changes = [*QUICK, *settings]
    if real is not None:
        recipes = _own(Path(real), settings, log)
        changes = []  # the recipes have them
    runs = sweep(list(recipes.values()), seeds, changes, output, jobs, log, on_progress=on_progress)
    arms = {}
    for title, results in zip(recipes, runs.values(), strict=True):
        arms[title] = [read_run(output / "snapshots" / one.name) for one in results]
    first = next(iter(arms.values()))[0].results
    return write_demo(output / PAGE, arms, first.main_statistics)


def _own(folder: Path, settings: Sequence[str], log: Log) -> dict[str, Recipe | str]:
    """The recipes of both arms on one's own folders."""
    if any(setting.startswith("name=") for setting in settings):
        raise RecipeError("name: the demo names its two runs itself; leave it out")
    recipes: dict[str, Recipe | str] = {}
    notes: list[str] = []
    for title, retention in RETENTIONS.items():
        own = [f"name=real_{title}", f"every_step.retention={retention}"]
        recipes[title], notes = demo_recipe(folder, [*own, *settings])
    for note in notes:
        log(f"note: {note}")
    return recipes
