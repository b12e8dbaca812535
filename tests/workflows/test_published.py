"""Recipes of published self-training, at a size for tests: only data, sizes and schedule change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from muhdi.adaptation import choice
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.models.tiny_transformers import configuration, transformers
from tests.workflows.test_train import assert_same_run, train_through_crashes

Muhdi = Callable[..., tuple[int, str, str]]
SCENES = "{dataset: scenes, domain: %s, train: 6, val: 3, image_size: %s}"

CONFIDENT = "every_step.adaptation.threshold=0"
"""Else no pixel counts: a network that knows nothing is sure of none."""


def published(kind: str, folder: Path) -> Path:
    """A folder as the hub has them, with random weights."""
    path = folder / kind
    transformers.AutoModel.from_config(configuration(kind)).save_pretrained(path)
    return path


def settings(kind: str, folder: Path, side: int) -> list[str]:
    """A tiny network with weights of its own, drawn scenes, and two iterations."""
    size = f"[{side + 16}, {side}]"
    changes = {
        "classes": "urban7",
        "image_size": size,
        "augment.crop": f"[{side}, {side}]",
        "source": SCENES % ("sim", size),
        "steps.0.target": SCENES % ("city", size),
        "model.backbone": f"{{name: 'hf:{published(kind, folder)}', options: {{}}}}",
        "optimizer.warmup": "1",
        "evaluation.samples": "1",
        "every_step.iterations": "2",
        "every_step.batch_size": "2",
        "runtime.workers": "0",
        "runtime.log_every": "1",
    }
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


@pytest.mark.parametrize(
    ("recipe", "kind", "terms"),
    [
        ("gta2cityscapes_daformer", "segformer", {"feature_distance"}),
        ("gta2cityscapes_mic", "segformer", {"feature_distance", "masked_main"}),
    ],
)
def test_published_self_training_runs(
    recipe: str, kind: str, terms: set[str], tmp_path: Path, muhdi: Muhdi
) -> None:
    status, output, errors = muhdi("train", recipe, *settings(kind, tmp_path, 32))
    assert status == 0, output + errors
    assert_terms(tmp_path / f"experiments/snapshots/{recipe}/metrics.jsonl", terms)


def assert_terms(metrics: Path, terms: set[str]) -> None:
    """Both iterations had these terms of loss, besides those of all recipes."""
    lines = metrics.read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        values = json.loads(line)
        assert terms | {"seg_main", "mix_main"} == values.keys() - {"stage", "iteration"}


def test_vfm_uda_is_resumed_to_the_bit_and_its_mask_token_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = settings("dinov2", tmp_path, 32)[1::2]
    recipe = Recipe.load("gta2cityscapes_vfm_uda", [*changes, "runtime.save_every=1", CONFIDENT])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 1)
    assert_same_run(whole, broken, recipe)
    run = RunDirectory.of(recipe, whole)
    assert_terms(run.metrics, {"masked_main"})
    state, _ = run.states.load()
    name = "backbone.model.embeddings.mask_token"
    assert state["trainer"]["model"][name].abs().max() > 0  # it began as 0


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_another_choice_than_the_first_is_resumed_to_the_bit(
    tune: str, tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "chosen", lambda found: "batch")
    changes = ["every_step.adaptation=selftrain"]
    if tune == "lora":
        folder = published("segformer", tmp_path)
        changes += [f"model.backbone='hf:{folder}'", "model.tune=lora", "model.decoder=lateral"]
    recipe = Recipe.load(tiny(), changes)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    # In the step; and after its end, in the evaluation.
    train_through_crashes(recipe, broken, monkeypatch, 4, 2, 0)
    assert_same_run(whole, broken, recipe)


def test_additions_are_resumed_to_the_bit_and_what_was_chosen_is_said(
    tiny: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adaptation = "{method: advent, width: 4, masked: {block: 8, blur_probability: 0.5}}"
    recipe = Recipe.load(tiny(), [f"every_step.adaptation={adaptation}"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole)
    captured = capsys.readouterr()
    said = captured.out + captured.err
    train_through_crashes(recipe, broken, monkeypatch, 5, 1)
    assert_same_run(whole, broken, recipe)
    assert "city, iteration 1: teacher_statistics: auto chose " in said
    run = whole / "snapshots/tiny"
    city = json.loads((run / "results.json").read_text())["steps"][1]
    assert city["remarks"][0].startswith("iteration 1: teacher_statistics: auto chose ")
    assert "city, iteration 1: teacher_statistics: auto chose" in (run / "report.html").read_text()
