"""Tables of networks that adapt while they predict."""

from __future__ import annotations

from typing import Any

from muhdi.report.online_tables import methods_table


def arm(statistics: str, *means: float) -> dict[str, Any]:
    """What is kept of a method whose only domain scored these means."""
    rounds = [
        {"domains": {"fog": {"miou": mean}}, "mean": mean, "cumulative": mean} for mean in means
    ]
    return {
        "statistics": statistics,
        "rounds": rounds,
        "mean": sum(means) / len(means),
        "latency": {"median_ms": 7.0},
        "resets": 2,
    }


def test_statistics_are_a_column_where_methods_differ_in_them() -> None:
    table = methods_table({"none": arm("image", 40.0, 42.0), "bn": arm("running", 41.0)}, ["fog"])
    head = ["method", "statistics", "fog", "mean", "first round", "last round", "cumulative"]
    assert table.header == [*head, "ms", "resets"]
    assert table.rows[0] == ["none", "image", 41.0, 41.0, 40.0, 42.0, 42.0, 7.0, "2"]
    assert table.title.startswith("mIoU while adapting, mean over 2 rounds; ")


def test_statistics_that_all_share_are_in_the_title_and_a_single_round_is_the_mean() -> None:
    table = methods_table({"none": arm("blend", 40.0), "sar": arm("blend", 41.0)}, ["fog"])
    assert table.header == ["method", "fog", "mean", "cumulative", "ms", "resets"]
    assert table.rows[1] == ["sar", 41.0, 41.0, 41.0, 7.0, "2"]
    assert table.title.startswith("mIoU while adapting, one round; ")
    assert table.title.endswith("; blend statistics")
