"""The benchmarks' plain version and ours are one computation, and the results page says what the
kept runs say.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks import performance, results, windows
from benchmarks.growth import apart
from benchmarks.iteration import VERSIONS, disagreement, measure


def test_the_plain_iteration_has_our_losses() -> None:
    assert disagreement("small", (64, 64)) < 1e-9


def test_the_results_page_is_what_the_kept_runs_say() -> None:
    assert results.PAGE.read_text() == results.page()


def test_the_performance_page_is_what_was_measured() -> None:
    assert performance.PAGE.read_text() == performance.page()


def test_a_version_is_measured_by_itself() -> None:
    assert set(VERSIONS) == {"ours", "bf16", "compiled"}
    for version in ("plain", "bf16"):
        assert measure(version, "small", (64, 64), 1)["cpu_s"] > 0


def test_windows_in_batches_are_those_one_at_a_time() -> None:
    images = torch.randint(0, 256, (2, 3, 64, 100), dtype=torch.uint8)
    found = windows.measure(images, "image", 1)
    assert found["difference"] < windows.TOLERANCE
    (ratio,) = found["single_over_batches"]
    assert ratio > 0


def test_growth_is_measured_in_a_process_of_its_own() -> None:
    steps = apart("steps", {"count": 2})
    assert len(steps) == 2
    assert all(step["cpu_s"] > 0 and step["held_mib"] > 50 for step in steps)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("scenes", []), ("camvid", []), ("camvid_lite", []), ("bf16", performance.BF16)],
)
def test_kept_runs_are_of_the_recipes_as_they_are(name: str, settings: list[str]) -> None:
    """A changed recipe needs its runs again: python -m benchmarks.results."""
    known = results.read(name)
    for run, entry in known.items():
        recipe, _, seed = run.rpartition("_seed")
        assert entry["recipe"] == results.digest(recipe, int(seed), settings), run
