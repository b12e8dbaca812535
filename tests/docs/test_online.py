"""docs/online.md: its commands and its Python run as they stand, and its numbers are the file's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from statistics import mean

import pytest
import yaml

from benchmarks.online import METHODS
from benchmarks.online_rounds import compared_to_control, more_than
from benchmarks.online_study import STUDIES
from muhdi.recipe.load import load_recipe
from muhdi.recipe.online import read_online
from muhdi.recipe.schema import Recipe
from tests.docs.test_readme import LITTLE, SCENES, take_a_photo

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/online.md").read_text()


def test_the_page_runs_from_top_to_bottom(muhdi, tmp_path: Path) -> None:
    take_a_photo()
    mine = ["name=mine", "image_size=[64, 32]"]
    settings = [word for s in LITTLE + SCENES + mine for word in ("--set", s)]
    status, _, errors = muhdi("train", "scenes", *settings)
    assert status == 0, errors
    few = ["--set", "online.images=1", "--set", "image_size=[64, 32]"]
    done = []
    for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S):
        if language == "python":
            exec(compile(block, "online", "exec"), {})
            done.append("python")
        elif language == "sh":
            for line in block.splitlines():
                program, *words = shlex.split(line)
                assert program == "muhdi"
                status, _, errors = muhdi(*words, *(few if "scenes" in words else []))
                assert status == 0, f"{line}: {errors}"
                done.append(words[0])
    assert [done.count(kind) for kind in ("adapt", "python")] == [3, 1]
    assert Path("by_tent/network.safetensors").is_file()
    assert Path("adapted.safetensors").is_file()
    assert len(json.loads(Path("compared/online.json").read_text())["arms"]) == 8


def test_its_section_is_a_part_of_a_recipe() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    online = Recipe.load("scenes", **yaml.safe_load(block)).online
    assert list(online.arms()) == [
        "none",
        "bn",
        "tent_published_lr1e-05",
        "tent_published_lr0.0001",
        "cotta_lr1e-05",
        "cotta_lr0.0001",
    ]


def test_the_published_protocol_is_shipped() -> None:
    recipe = load_recipe("cityscapes2acdc_online")
    conditions = [data.condition for _, data in recipe.domains()]
    assert conditions == ["fog", "night", "rain", "snow"]
    assert recipe.image_size == (960, 540)
    assert (recipe.online.rounds, recipe.online.split) == (10, "train")
    learning = [arm for arm in recipe.online.arms() if "_lr" in arm]
    assert len(learning) == 4 * len(recipe.online.learning_rates)


def test_what_it_costs_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "benchmarks/measured/online.json").read_text())
    text = " ".join(PAGE.split())
    for method, limit in METHODS.items():
        ratio = mean(measured[f"{method}_over_plain"])
        assert limit is None or ratio <= limit
        assert f"{method} {ratio:.2f}" in text


def test_what_it_gains_is_what_the_kept_runs_say() -> None:
    text = " ".join(PAGE.split())
    study = STUDIES["scenes2"]
    runs = study.finished(study.reported(), study.seeds)
    compared = compared_to_control(runs)
    chosen = study.chosen()
    assert {arm for arm in chosen.values() if compared[arm].holds} == {"sar_0.01"}
    plain = mean(run.average for run in runs["none"])
    assert study.statistics == "image"
    assert f"with each image's own statistics scores {plain:.1f}. " in text
    gain = compared["sar_0.01"].difference.mean
    assert f"`sar` scores {gain:.1f} points more, at a learning rate of 0.01, forty times" in text
    over_running = more_than(runs[chosen["bn"]], runs["none_running"]).mean
    assert f"`bn` has {over_running:.1f} points more than plain prediction with the run" in text

    choice = study.controls() | study.all_candidates()
    tried = study.finished(choice, study.chosen_on)
    default = read_online("sar", {}).learning_rate
    assert 40 * default == pytest.approx(0.01)
    usual = more_than(tried[f"sar_{default:g}"], tried["none"]).mean
    assert f"at which it had {usual:.1f} more on the seeds that chose" in text
    fast = tried["tent_0.001"]
    ends = zip(fast, tried["none"], strict=True)
    lost = mean(plain.by_round[-1] - own.by_round[-1] for own, plain in ends)
    assert f"`tent` ended {lost:.1f} points below plain prediction, and only one of its two" in text
    assert sorted(run.resets for run in fast) == [0, 1]
