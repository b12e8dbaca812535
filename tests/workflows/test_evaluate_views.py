"""`muhdi evaluate` by windows, mirror images and scales: what it gives, says and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from muhdi.evaluation.results import Results
from muhdi.evaluation.samples import add_earlier_predictions
from muhdi.preflight.check import check
from muhdi.recipe.load import load_recipe
from muhdi.report.facts import facts
from muhdi.report.run_files import read_run
from muhdi.run.sample_files import after_name
from muhdi.workflows.evaluate import evaluate
from muhdi.workflows.train import train
from tests.folders import day, rain


def test_windows_mirror_images_and_scales_through_the_command(
    muhdi, trained: Path, tmp_path: Path
) -> None:
    def scored(*words: object) -> dict[str, Any]:
        options = ["--statistics", "running", "--json", "scores.json"]
        status, _, errors = muhdi("evaluate", trained, *options, *words)
        assert status == 0, errors
        result: dict[str, Any] = json.loads((tmp_path / "scores.json").read_text())
        return result

    plain = scored()
    assert plain["scored"]["night"]["views"] == ""
    covering = scored("--window", 64, 32)
    assert covering["steps"] == plain["steps"]
    assert covering["confusion"] == plain["confusion"]
    words = ["--window", 32, 32, "--overlap", 0.5, "--flip", "--scales", "0.75,1"]
    averaged = scored(*words)
    assert averaged["steps"] != plain["steps"]
    text = "windows of 32x32 with an overlap of 0.5, mirror images, scales 0.75, 1"
    assert averaged["scored"]["night"]["views"] == text
    settings = ["window=[32,32]", "overlap=0.5", "flip=true", "scales=[0.75,1]"]
    keys = [word for key in settings for word in ("--set", f"evaluation.{key}")]
    assert scored(*keys)["confusion"] == averaged["confusion"]
    assert scored(*keys, *words[:2], 32, "--no-flip")["scored"]["night"]["views"] == (
        "windows of 32x32 with an overlap of 0.5, scales 0.75, 1"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "15", "64"], "evaluation.window.0: input should be greater than or equal"),
        (["--window", "64", "32769"], "evaluation.window.1: input should be less than or equal"),
        (["--window", "64", "32", "--overlap", "0.95"], "evaluation.overlap: input should be less"),
        (["--overlap", "0.3"], "evaluation.overlap: is that of windows; set evaluation.window"),
        (["--overlap", "0.25"], "--overlap: is that of windows; give --window, too"),
        (["--scales", ""], "--scales '': must be numbers"),
        (["--set", "evaluation.scales=[]"], "evaluation.scales: list should have at least 1 item"),
        (["--scales", "1,-1"], "evaluation.scales.1: input should be greater than 0"),
        (
            ["--scales", "0.4,1"],
            "evaluation.scales: 0.4 makes the images of source, which are 64x32, smaller than 16",
        ),
        (
            ["--scales", "0.4,1", "--set", "evaluation.input_size=native"],
            "sim_00000: is 64x32, which scale 0.4 makes smaller than 16 pixels a side",
        ),
    ],
)
def test_views_that_cannot_be_are_one_line(
    muhdi, trained: Path, words: list[str], message: str
) -> None:
    status, _, errors = muhdi("evaluate", trained, *words)
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors


def test_an_image_that_a_scale_makes_too_small_is_named_before_any_training(
    muhdi, tiny: Callable[..., Path], folders: Path, tmp_path: Path, monkeypatch
) -> None:
    """Images that are scored at their own size: 36x24, and one of 24x18."""

    def trained(*arguments: object) -> None:
        raise AssertionError("a network was made")

    monkeypatch.setattr("muhdi.workflows.train.start", trained)
    monkeypatch.setattr("muhdi.workflows.dry_run.start", trained)
    small = folders / "rain" / "val" / "img 2.png"
    Image.new("RGB", (24, 18)).save(small)
    path = tiny(
        root=str(folders),
        classes=["flat", "vehicle"],
        source=day({0: "flat", 7: "vehicle", 9: "ignore"}),
        steps=[{"target": rain()}],
        evaluation={"input_size": "native", "scales": [0.7, 1]},
    )
    fault = "is 24x18, which scale 0.7 makes smaller than 16 pixels a side; leave it out of"
    for words in (["train"], ["train", "--dry-run"]):
        status, _, errors = muhdi(*words, path)
        assert (status, errors.count("\n")) == (2, 1)
        assert f"{small}: {fault} evaluation.scales" in errors
    assert not (tmp_path / "experiments").exists()
    (problem,) = check(load_recipe(path), 1).problems
    assert problem.startswith(f"steps.0.target (rain, val): the smallest image: {fault}")
    assert check(load_recipe(path, ["evaluation.scales=[0.9,1]"]), 1).problems == []


def test_a_run_scores_its_stages_by_views_and_says_so(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    evaluation = {
        "samples": 1,
        "domain_images": 2,
        "statistics": ["running"],
        "input_size": "native",
        "window": [32, 24],
        "flip": True,
    }
    step = {"target": {"dataset": "scenes", "domain": "city", "train": 2, "val": 1}}
    recipe = load_recipe(tiny(evaluation=evaluation, steps=[step]))
    train(recipe, tmp_path / "exp", quiet=True)
    run = tmp_path / "exp" / "snapshots" / "tiny"
    text = "windows of 32x24 with an overlap of 0.25, mirror images"
    scored = json.loads((run / "results.json").read_text())["scored"]["city"]
    assert (scored["input_size"], scored["views"]) == ("native", text)
    again = evaluate(run)
    assert again.matrix("running")[0] == Results.load(run).matrix("running")[-1]
    assert any(f"at their own size, averaged over {text}, scored" in note for note in again.notes)
    assert ("scored", f"averaged over {text}") in facts(read_run(run))
    assert text in (run / "report.html").read_text()
    earlier = run / "samples" / after_name("city_0", 0, "running")
    before = earlier.read_bytes()
    earlier.unlink()
    add_earlier_predictions(run)
    assert earlier.read_bytes() == before
    (change,) = [
        row for row in json.loads((run / "change.json").read_text()) if row["domain"] == "city"
    ]
    assert 0 < change["confidence_after"] <= 100
