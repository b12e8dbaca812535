"""The benchmark's plain version and ours are one computation."""

from __future__ import annotations

from benchmarks.iteration import disagreement


def test_the_plain_iteration_has_our_losses() -> None:
    assert disagreement("small", (64, 64)) < 1e-9
