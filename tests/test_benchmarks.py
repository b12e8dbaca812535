"""The benchmarks' plain version and ours are one computation, and the results page says what the kept runs say."""

from __future__ import annotations

import pytest

from benchmarks import results
from benchmarks.iteration import disagreement


def test_the_plain_iteration_has_our_losses() -> None:
    assert disagreement("small", (64, 64)) < 1e-9


def test_the_results_page_is_what_the_kept_runs_say() -> None:
    assert results.PAGE.read_text() == results.page()


@pytest.mark.parametrize("name", ["scenes", "camvid"])
def test_kept_runs_are_of_the_recipes_as_they_are(name: str) -> None:
    """A changed recipe needs its runs again: python -m benchmarks.results."""
    known = results.read(name)
    for run, entry in known.items():
        recipe, _, seed = run.rpartition("_seed")
        assert entry["recipe"] == results.digest(recipe, int(seed)), run
