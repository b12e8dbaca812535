"""The library as its user calls it from Python: objects in, objects out, mistakes on one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import muhdi
from muhdi.files import read_json
from muhdi.models.checkpoint import load_checkpoint
from muhdi.run.directory import RunDirectory

Tiny = Callable[..., Path]
IMAGE = np.zeros((32, 64, 3), np.uint8)

MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an empty image": (lambda run: muhdi.Predictor.load(run).predict(IMAGE[:0]), "has no pixels"),
    "an image of floats": (
        lambda run: muhdi.Predictor.load(run).predict(IMAGE / 255),
        "an image must be a file, a PIL image, or an array of uint8 RGB",
    ),
    "a size as text": (lambda run: muhdi.View(size="64x32"), "size '64x32': must be width and"),
    "a batch size as text": (lambda run: muhdi.View(batch_size="4"), "batch_size: must be of type"),
    "a size instead of a view": (
        lambda run: muhdi.Predictor.load(run).predict(IMAGE, (64, 32)),
        "view: must be of type View, but is of type tuple",
    ),
    "files among arrays": (
        lambda run: muhdi.Predictor.load(run).predict_many(["a.png"]),
        "images: must be of type ndarray, but is of type str",
    ),
    "a list of statistics": (
        lambda run: muhdi.Predictor.load(run, statistics=["running"]),
        "statistics: must be of type str, but is of type list",
    ),
    "no path": (lambda run: muhdi.Predictor.load(None), "path: must be of type str or Path"),
    "a file to train": (
        lambda run: muhdi.train("base.yml"),
        "recipe: must be a Recipe: muhdi.train(muhdi.Recipe.load('base.yml'))",
    ),
    "a file to try": (
        lambda run: muhdi.dry_run("base.yml"),
        "recipe: must be a Recipe: muhdi.dry_run(muhdi.Recipe.load('base.yml'))",
    ),
    "a mapping as a recipe": (
        lambda run: muhdi.Recipe.load({"name": "x"}),
        "recipe: must be of type str or Path, but is of type dict",
    ),
    "an unknown key": (
        lambda run: muhdi.Recipe.load("scenes", every_stpe=1),
        "every_stpe: unknown key; did you mean 'every_step'?",
    ),
    "a network to evaluate": (
        lambda run: muhdi.evaluate(load_checkpoint(RunDirectory(run).last_model()).network),
        "what: must be of type str or Path or Recipe or Checkpoint, but is of type Segmenter",
    ),
    "a checkpoint without a recipe": (
        lambda run: muhdi.evaluate(load_checkpoint(RunDirectory(run).last_model())),
        "recipe: is needed, since a checkpoint does not say its domains",
    ),
    "statistics with a slip": (
        lambda run: muhdi.evaluate(run, statistics="domian"),
        "statistics domian: must be one of",
    ),
    "statistics as a number": (lambda run: muhdi.evaluate(run, statistics=3), "statistics: must"),
    "one recipe to sweep": (
        lambda run: muhdi.sweep("scenes", [1]),
        "recipes: must be a list, but is 'scenes'",
    ),
    "one seed to sweep": (lambda run: muhdi.sweep(["scenes"], 1), "seeds: must be a list, but is"),
    "no seed to sweep": (lambda run: muhdi.sweep(["scenes"], []), "seeds: give at least one"),
    "a recipe twice": (lambda run: muhdi.sweep(["scenes"] * 2, [1]), "two recipes are called so"),
    "images to adapt to": (lambda run: muhdi.adapt(run, [IMAGE]), "images: must be of type str or"),
    "an unknown output": (
        lambda run: muhdi.export(run, "a.pt2", output="labels"),
        "--output labels: must be logits or classes",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(
    mistake: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call, text = MISTAKES[mistake]
    with pytest.raises(muhdi.MuhdiError, match=re.escape(text)) as caught:
        call(trained)
    assert str(caught.value).count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_train_writes_what_the_command_writes(
    tiny: Tiny, tmp_path: Path, muhdi: Callable[..., tuple[int, str, str]]
) -> None:
    import muhdi as library

    path = tiny()
    results = library.train(library.Recipe.load(path), tmp_path / "python", quiet=True)
    assert muhdi("train", path, "--experiments", "command")[0] == 0
    ours, theirs = (tmp_path / name / "snapshots/tiny" for name in ("python", "command"))
    files = [
        sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        for folder in (ours, theirs)
    ]
    assert files[0] == files[1]
    assert {"report.html", "environment.json", "recipe.yml"} <= set(files[0])
    assert read_json(ours / "results.json") == read_json(theirs / "results.json")
    assert library.Results.load(ours).steps == results.steps


def test_a_checkpoint_scores_like_its_file(trained: Path) -> None:
    file = RunDirectory(trained).last_model()
    recipe = muhdi.Recipe.load(trained / "recipe.yml")
    checkpoint = load_checkpoint(file)
    of_file = muhdi.evaluate(file)
    of_object = muhdi.evaluate(checkpoint, recipe, statistics=["running", "domain"])
    for statistics in ("running", "domain"):
        assert of_object.matrix(statistics) == of_file.matrix(statistics)
    stored = {name: dict(values) for name, values in checkpoint.statistics.items()}
    muhdi.evaluate(checkpoint, recipe, statistics="domain", refresh=True)
    for name, values in checkpoint.statistics.items():
        assert all(values[key] is stored[name][key] for key in values), "nothing is changed"


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_a_sweep_takes_recipes_and_names_their_results(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tiny(steps=[])
    one = muhdi.Recipe.load(path, name="one")
    lines: list[str] = []
    results = muhdi.sweep([one, path], [3, 4], experiments=tmp_path / "x", jobs=2, log=lines.append)
    assert list(results) == ["one", str(path)]
    assert [[run.name for run in runs] for runs in results.values()] == [
        ["one_seed3", "one_seed4"],
        ["tiny_seed3", "tiny_seed4"],
    ]
    assert "one_seed3: done" in lines
    again = muhdi.Recipe.load(path, name="one", image_size=[64, 32])
    with pytest.raises(muhdi.MuhdiError, match="one: two recipes are called so"):
        muhdi.sweep([one, again], [3], experiments=tmp_path / "x", log=lines.append)


def test_reprs_are_short(trained: Path) -> None:
    recipe = muhdi.Recipe.load("scenes")
    shown = [recipe, muhdi.Results.load(trained), muhdi.Predictor.load(trained, domain="city")]
    assert repr(shown[0]) == "Recipe('scenes', seed=0, source -> city -> dust -> night)"
    assert all(len(repr(value)) < 120 for value in shown)
