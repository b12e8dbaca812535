"""`muhdi adapt`: the next model from a trained one and a folder of images, and what it changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import muhdi as library
from muhdi import MuhdiError, RecipeError
from muhdi.data.catalog import DataContext, open_split
from muhdi.data.scenes.draw import draw_scene
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import read_backbone
from muhdi.run.directory import RunDirectory
from muhdi.training.start import find_initial
from muhdi.workflows import change
from muhdi.workflows.adapt import plan_adaptation

LITTLE = ["--set", "every_step.iterations=3"]


@pytest.fixture
def rainy(tmp_path: Path) -> Path:
    """A folder of images of a place that the trained network has not seen, in train and val."""
    for split, count in (("train", 5), ("val", 3)):
        for number in range(count):
            path = tmp_path / "rainy" / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_scene("rain", (number, split == "val"), (64, 32))[0]).save(path)
    return tmp_path / "rainy"


def test_adapt_gives_the_next_model_and_what_changed(
    muhdi, trained: Path, rainy: Path, tmp_path: Path
) -> None:
    status, output, errors = muhdi("adapt", trained, "--images", "rainy", *LITTLE)
    assert status == 0, errors
    run = tmp_path / "experiments/snapshots/trained_rainy"
    results = json.loads((run / "results.json").read_text())
    assert [step["name"] for step in results["steps"]] == ["source", "rainy"]
    assert results["domains"] == ["sim", "rainy", "city", "dust", "night"]
    # Before the step every earlier domain has the score that the old run ended with.
    ended = json.loads((trained / "results.json").read_text())["steps"][-1]["scores"]
    for kind in ("running", "domain", "image"):
        for domain in ("sim", "city", "dust", "night"):
            assert (
                results["steps"][0]["scores"][kind][domain]["miou"] == ended[kind][domain]["miou"]
            )
    recipe = yaml.safe_load((run / "recipe.yml").read_text())
    assert recipe["source_training"]["iterations"] == 0
    assert recipe["steps"][0]["adaptation"]["method"] == "selftrain"
    assert (
        recipe["steps"][0]["retention"]
        == yaml.safe_load((trained / "recipe.yml").read_text())["steps"][-1]["retention"]
    )
    # What needs no labels, measured here by hand on the new place.
    rows = {
        (r["statistics"], r["domain"]): r for r in json.loads((run / "change.json").read_text())
    }
    assert len(rows) == 15
    images = torch.from_numpy(
        np.stack([np.asarray(Image.open(p)) for p in sorted(rainy.glob("val/*.png"))])
    )
    shares = [
        library.Predictor.load(path)(images.permute(0, 3, 1, 2)).softmax(1)
        for path in (trained, run)
    ]
    row = rows["running", "rainy"]
    assert row["images"] == 3
    for moment, one in zip(("before", "after"), shares, strict=True):
        assert row[f"confidence_{moment}"] == pytest.approx(
            100 * float(one.amax(1).mean()), abs=0.01
        )
        entropy = -(one * one.clamp_min(1e-30).log()).sum(1).mean() / np.log(7)
        assert row[f"entropy_{moment}"] == pytest.approx(100 * float(entropy), abs=0.01)
    same = (shares[0].argmax(1) == shares[1].argmax(1)).float().mean()
    assert row["agreement"] == pytest.approx(100 * float(same), abs=0.01)
    assert "confidence_before" not in rows["domain", "rainy"], (
        "the old network holds no statistics of the new place"
    )
    assert "confidence_after" in rows["domain", "rainy"]
    assert "Old and new network on every domain" in output
    assert "What changed, without labels" in (run / "report.html").read_text()
    # and on to the next place: the ones before it stay in view
    shutil.copytree(rainy, tmp_path / "snow")
    assert muhdi("adapt", run, "--images", "snow", *LITTLE)[0] == 0
    again = json.loads(
        (tmp_path / "experiments/snapshots/trained_rainy_snow/results.json").read_text()
    )
    assert again["domains"] == ["sim", "snow", "rainy", "city", "dust", "night"]
    status, _, errors = muhdi("adapt", run, "--images", "snow", *LITTLE)
    assert status == 2
    assert "this run exists already" in errors


def test_images_that_are_gone_are_named_and_the_rest_goes_on(
    muhdi, trained: Path, rainy: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained, tmp_path / "runs/old")
    recipe = yaml.safe_load((run / "recipe.yml").read_text())
    recipe["steps"][1]["target"] = {
        "dataset": "folder",
        "name": "lost",
        "root": "/nowhere/lost",
        "images": "*.png",
    }
    recipe["online"] = {"domains": ["lost"]}
    (run / "recipe.yml").write_text(yaml.safe_dump(recipe))
    status, output, errors = muhdi(
        "adapt", run, "--images", "rainy", *LITTLE, "--set", "every_step.retention=none"
    )
    assert status == 0, errors
    assert (
        "note: lost: is not evaluated, its images are not there any more (root: the folder"
        " /nowhere/lost" in output
    )
    results = json.loads((tmp_path / "experiments/snapshots/old_rainy/results.json").read_text())
    assert results["domains"] == ["sim", "rainy", "city", "night"]


def test_it_is_said_which_images_are_left_out(trained: Path, rainy: Path) -> None:
    shutil.copytree(rainy / "val", rainy / "masks")
    plan = plan_adaptation(trained, rainy)
    left_out = "3 images in folders that are named like labels were left out"
    assert plan.notes == [f"{rainy}: {left_out}"]
    assert ", from 5 images without labels, after trained" in plan.recipe.description


def test_images_in_neither_split_are_said_to_be_left_out(trained: Path, rainy: Path) -> None:
    shutil.copytree(rainy / "val", rainy / "more")
    plan = plan_adaptation(trained, rainy)
    assert plan.notes == [f"{rainy}: 3 images outside the folders of train and val were left out"]


def test_a_name_that_the_network_knows_is_refused(
    trained: Path, rainy: Path, tmp_path: Path
) -> None:
    """Its statistics, and what a retention keeps of it, would be overwritten."""
    network = shutil.copy(RunDirectory(trained).last_model(), tmp_path / "net.safetensors")
    for model in (trained, network):
        for name in ("sim", "city"):
            place = shutil.copytree(rainy, tmp_path / name, dirs_exist_ok=True)
            message = f"--images: a domain is called '{name}' already; rename the folder"
            with pytest.raises(MuhdiError, match=message):
                plan_adaptation(model, place, source_free=True)


def test_the_step_as_a_whole_is_not_changed(trained: Path, rainy: Path) -> None:
    for steps in ("[]", "[{target: {dataset: scenes, domain: fog}}]"):
        for changed in ({"settings": [f"steps={steps}"]}, {"changes": {"steps": []}}):
            with pytest.raises(RecipeError, match=r"^steps: the one step learns from --images;"):
                plan_adaptation(trained, rainy, **changed)


def test_a_folder_may_hold_a_dollar_sign(trained: Path, rainy: Path, tmp_path: Path) -> None:
    place = rainy.rename(tmp_path / "rain$y")
    network = tmp_path / "$net.safetensors"
    shutil.copy(RunDirectory(trained).last_model(), network)
    recipe = plan_adaptation(network, place, source_free=True).recipe
    assert len(open_split(recipe.steps[0].target, "train", DataContext.of(recipe))) == 5
    assert find_initial(recipe.model, ".") == network


def test_a_lone_network_is_adapted_with_a_recipes_source(
    muhdi, trained: Path, rainy: Path, tmp_path: Path
) -> None:
    shutil.copy(RunDirectory(trained).last_model(), tmp_path / "net.safetensors")
    status, _, errors = muhdi("adapt", "net.safetensors", "--images", "rainy", *LITTLE)
    assert status == 2
    assert "say with --source RECIPE on which source it was trained" in errors
    little = ["--set", "source.train=4", "--set", "source.val=2", "--set", "extra_domains=[]"]
    words = (
        "adapt",
        "net.safetensors",
        "--images",
        "rainy",
        "--source",
        "scenes",
        *LITTLE,
        *little,
    )
    status, _, errors = muhdi(*words)
    assert status == 0, errors
    assert (
        RunDirectory(tmp_path / "experiments/snapshots/net_rainy").last_model().parent.name
        == "1_rainy"
    )


def test_mistakes_are_one_line_and_leave_no_run(
    muhdi, trained: Path, rainy: Path, tmp_path: Path
) -> None:
    save_checkpoint(
        tmp_path / "ab.safetensors",
        Checkpoint(build_segmenter("small", 2), read_backbone("small"), ("a", "b"), (64, 32)),
    )
    rainy.rename(tmp_path / "city")
    for words, message in (
        ([trained, "--images", "nowhere"], "nowhere: the folder does not exist"),
        ([trained, "--images", "city"], "a domain is called 'city' already"),
        (
            ["ab.safetensors", "--images", "city", "--source", "scenes"],
            "its classes are not those of the recipe 'scenes'",
        ),
        ([trained, "--images", "city", "--source", "scens"], "did you mean 'scenes'"),
        (
            ["nothing", "--images", "city"],
            "nothing: there is no such run directory or network file",
        ),
        (
            [trained, "--images", ".", "--set", "every_step.iteration=1"],
            "did you mean 'iterations'",
        ),
    ):
        status, _, errors = muhdi("adapt", *words)
        assert status == 2, words
        assert message in errors
        assert errors.count("\n") == 1
    assert not (tmp_path / "experiments").exists()


def test_what_changed_is_measured_on_the_device_of_the_recipe(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU there, too: ``auto`` would take the one that is only pretended here."""
    loaded: list[Path] = []

    def load(file: Path, **options: bool) -> Checkpoint:
        loaded.append(file)
        return load_checkpoint(file, **options)

    network = RunDirectory(trained).last_model()
    recipe = library.Recipe.load(trained / "recipe.yml", ["runtime.device=cpu"])
    path = tmp_path / "change.json"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(change, "load_checkpoint", load)
    change.record_change(recipe, network, network, path)
    rows = json.loads(path.read_text())
    assert len(rows) == 12
    assert {row["agreement"] for row in rows} == {100}
    assert loaded == [network, network], "each network is read once"
