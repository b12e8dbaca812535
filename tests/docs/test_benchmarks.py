"""The benchmarks' plain version and ours are one computation, and the results page says what the
kept runs say.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import (
    arms,
    crops,
    defaults,
    gpu,
    gpu_page,
    iteration,
    keeping,
    masked,
    online,
    parts,
    performance,
    rare_classes,
    results,
    retention_cost,
    retention_studies,
    segformer,
    shards,
    teacher_choice,
    tutorial,
    windows,
)
from benchmarks.growth import apart
from benchmarks.iteration import VERSIONS, disagreement, measure
from benchmarks.made_up import MadeUp, prepared, segformer_folder
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.load import shipped_recipes
from tests.docs.commands import check_understood, shell_lines


def test_the_plain_iteration_has_our_losses() -> None:
    assert disagreement("small", (64, 64)) < 1e-9


def test_the_results_page_is_what_the_kept_runs_say() -> None:
    assert results.PAGE.read_text() == results.page()


def test_the_tutorial_s_table_is_what_was_measured() -> None:
    measured = json.loads(tutorial.MEASURED.read_text())
    assert measured["network"] == "small"
    assert tutorial.table(measured["rows"]).strip() in (tutorial.DOCS / "tutorial.md").read_text()


def test_the_tutorial_s_recipe_has_all_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("simulator", "my_city"):
        for split in ("train", "val"):
            for folder in ("images", "labels"):
                Path(place, split, folder).mkdir(parents=True)
            Image.new("RGB", (32, 16)).save(f"{place}/{split}/images/000.png")
            label = Image.new("L", (32, 16))
            label.putpixel((0, 0), 1)
            label.save(f"{place}/{split}/labels/000.png")
    tried = tutorial.recipes()
    assert [recipe.steps[0].retention.key for recipe in tried] == ["none", "none", "muhdi", "style"]
    assert [recipe.steps[0].adaptation.key for recipe in tried] == ["none", *["selftrain"] * 3]
    assert len({recipe.name for recipe in tried}) == len(tried)


def test_the_performance_page_is_what_was_measured() -> None:
    assert performance.PAGE.read_text() == performance.page()


def test_a_version_is_measured_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # Some processors take minutes for a large product in bf16.
    monkeypatch.setattr(iteration, "MATRIX_SIDE", 64)
    assert set(VERSIONS) == {"ours", "bf16", "compiled"}
    for version in ("plain", "bf16"):
        assert measure(version, "small", (64, 64), 1)["cpu_s"] > 0


def test_windows_in_batches_are_those_one_at_a_time() -> None:
    images = torch.randint(0, 256, (2, 3, 64, 100), dtype=torch.uint8)
    found = windows.measure(images, "image", 1)
    assert found["difference"] < windows.TOLERANCE
    (ratio,) = found["single_over_batches"]
    assert ratio > 0


def test_the_plain_step_with_transformers_has_our_losses(tmp_path: Path) -> None:
    backbone = segformer_folder("tiny", tmp_path)
    assert segformer.disagreement(backbone, 32, 2, iterations=2) < 1e-9
    found = segformer.measure(segformer.build(backbone, 32, 1), 1)
    assert set(found) == {"ours", "plain"}
    assert all(len(rounds) == 1 and rounds[0] > 0 for rounds in found.values())


def test_loading_processes_are_measured() -> None:
    samples = prepared(MadeUp("a", 2, (64, 32), 3), (64, 32), with_labels=True)
    found = crops.measure(samples, AugmentConfig(crop=(16, 16), colour=0.3), 0.05, (1,))
    assert found.cpu > 0
    assert found.processes[1] > 0


def test_rare_class_sampling_is_measured() -> None:
    recipe = rare_classes.recipe_of("small", (64, 32), (32, 32))
    found = rare_classes.measure(recipe, rare_classes.sets_of(recipe, 2), 1, 1)
    assert len(found) == 6
    assert all(len(rounds) == 1 and rounds[0] > 0 for rounds in found.values())


def test_shards_are_measured(tmp_path: Path) -> None:
    found = shards.epoch(tmp_path, 100)
    assert found["images"] == 100
    assert found["fetched_once"] == found["shards"] == 1
    assert len(found["resident_mb"]) == 2
    assert 0 < found["kept_mb"] <= found["keep_mb"]


def test_a_masked_pass_is_measured() -> None:
    recipe = rare_classes.recipe_of("small", (64, 32), (32, 32))
    # Several iterations: what other programs take from a single one may be more than the pass.
    found = masked.measure(recipe, rare_classes.sets_of(recipe, 2), 1, 10)
    assert found["masked_over_plain"][0] > 1


def test_retentions_are_measured_where_they_have_something_to_keep() -> None:
    recipe = rare_classes.recipe_of("small", (64, 32), (32, 32))
    sets = rare_classes.sets_of(recipe, 2)
    tried = {"style": "style", "distill": "distill"}
    found = retention_cost.measure(recipe, sets, tried, 1, 10)
    assert list(found) == ["style", "distill"]
    assert found["distill"][0] > 1.02, "the old network sees every image"


def test_adapting_is_measured_over_plain_prediction() -> None:
    found = online.measure("small", (64, 32), 1, 1)
    assert {name for name in found if "_over_" not in name} == {"plain", *online.METHODS}
    assert found["cotta_over_plain"][0] > 2


STUDIES = [*defaults.STUDIES.values(), *parts.STUDIES.values(), *retention_studies.STUDIES.values()]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_arms_are_recipes_and_their_kept_runs_are_of_them(study: arms.Study) -> None:
    assert len({study.recipe(arm).name for arm in study.arms}) == len(study.arms)
    digests = {keeping.digest(study.base, 1, study.settings(arm)) for arm in study.arms}
    assert len(digests) == len(study.arms), "two arms are one recipe"
    for run, entry in keeping.read(study.name).items():
        name, _, seed = run.rpartition("_seed")
        settings = study.settings(name.removeprefix(f"{study.name}_"))
        assert entry["recipe"] == keeping.digest(study.base, int(seed), settings), run


def test_the_choice_of_statistics_is_a_table() -> None:
    scores = {"blend": 40.0, "batch": 30.0, "running": 35.0}
    information = {"blend": 0.5, "batch": 0.6, "running": 0.4}
    cases = [
        teacher_choice.Case("a", 1, "x", information, scores, "batch"),
        teacher_choice.Case("a", 2, "x", information, scores, "blend"),
    ]
    shown = teacher_choice.table(cases)
    assert "| a, 1 | x | 40.0 | **30.0** | 35.0 | 0.500, 0.600, 0.400 |" in shown
    assert "the best candidate in 1 of 2 cases; it lost at most 10.0 points." in shown


def test_the_gpu_page_is_its_guide_and_what_was_measured() -> None:
    assert gpu_page.PAGE.read_text() == gpu_page.page(gpu.measured())


def test_what_the_gpu_page_says_to_run_can_be_run() -> None:
    guide = gpu_page.GUIDE.read_text()
    lines = shell_lines(guide)
    assert len(lines) >= 5
    for words in lines:
        check_understood(words)
    named = set(re.findall(r"`(\w+2\w+|acdc_sequence\w+)`", guide))
    assert len(named) >= 5
    assert named <= shipped_recipes().keys()


def test_a_gpu_benchmark_without_a_gpu_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        gpu.main([])
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "no GPU" in printed.err


def test_all_of_the_gpu_benchmark_runs_on_a_cpu_with_tiny_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "WARM", 1)
    page, numbers = tmp_path / "gpu.md", tmp_path / "gpu.json"
    few = ["--works", "dinov2", "--ways", "bf16", "--iterations", "1", "--workers", "0"]
    gpu.main(["--tiny", *few, "--json", str(numbers), "--page", str(page)])
    found = json.loads(numbers.read_text())
    (row,) = (gpu_page.Row(**row) for row in found["rows"])
    assert not row.error
    assert row.way == "bf16"
    assert row.images == 4
    assert row.matrix_rate == found["rates"]["bf16-mixed"]
    assert 0 < row.share < 1
    assert [wait["seconds"] > 0 for wait in found["waits"]] == [True] * 3
    assert page.read_text() == gpu_page.page(found)
    assert "| self-training, DINOv2-B | bf16 |" in page.read_text()


def test_a_way_that_fails_says_so_in_its_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def alone(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(gpu, "alone", alone)
    work = gpu.works(tmp_path, tiny=True)["segformer"]
    row = gpu.measure(work, "float32", 1, {"32-true": 1e9})
    assert gpu_page.cells(row)[2] == "CUDA out of memory. Tried to allocate"


def test_what_waits_is_what_loading_adds() -> None:
    assert gpu_page.Wait("a", "b", 0.5, 0.4).share == pytest.approx(0.2)
    assert gpu_page.Wait("a", "b", 0.3, 0.4).share == 0
    row = gpu_page.Row("a", "b", 0.5, 4, 2048, 10**12, 4e12)
    assert gpu_page.cells(row) == ["a", "b", "0.500", "8.0", "2.0", "50 %"]


def test_growth_is_measured_in_a_process_of_its_own() -> None:
    steps = apart("steps", {"count": 2, "retention": "style"})
    assert len(steps) == 2
    assert steps[1]["kept_bytes"] == 2 * steps[0]["kept_bytes"] > 0
    assert all(step["cpu_s"] > 0 and step["held_mib"] > 50 for step in steps)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("scenes", []), ("camvid", []), ("camvid_lite", []), ("bf16", performance.BF16)],
)
def test_kept_runs_are_of_the_recipes_as_they_are(name: str, settings: list[str]) -> None:
    """A changed recipe needs its runs again: python -m benchmarks.results."""
    known = keeping.read(name)
    for run, entry in known.items():
        recipe, _, seed = run.rpartition("_seed")
        assert entry["recipe"] == keeping.digest(recipe, int(seed), settings), run


@pytest.mark.parametrize("name", ["scenes2", "camvid", "india"])
def test_all_targets_at_once_for_as_long_as_the_sequence(name: str) -> None:
    study = retention_studies.STUDIES[name]
    sequence = study.recipe("selftrain")
    (step,) = study.recipe("joint").steps
    assert step.iterations == sum(one.iterations for one in sequence.steps)
    assert set(step.domain_names) == {name for one in sequence.steps for name in one.domain_names}
    assert all(one.target in step.domains for one in sequence.steps)
    assert step.adaptation == sequence.steps[0].adaptation
    assert "joint" not in retention_studies.STUDIES[f"free_{name}"].arms
