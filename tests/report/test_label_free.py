"""What is said of domains without labels, and how well scores without labels rank networks."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from muhdi.evaluation.results import Results
from muhdi.report.label_free import (
    gone_wrong,
    label_free_table,
    networks_table,
    sentence,
    stage_warnings,
    unlabelled,
    without_labels,
)
from muhdi.report.logged import logged_scores
from muhdi.report.ranking import ranking, ranks, spearman


def found(
    entropy: float = 40.0,
    mirror: float | None = 90.0,
    shares: tuple[float, float, float] = (60.0, 38.0, 2.0),
) -> dict[str, Any]:
    """Scores of a domain with three classes."""
    return {
        "images": 4,
        "entropy": entropy,
        "mutual_information": 30.0,
        "mirror_agreement": mirror,
        "previous_agreement": None,
        "shares": dict(zip(("road", "sky", "pole"), shares, strict=True)),
    }


def rainy(*stages: dict[str, Any]) -> Results:
    """A run whose target has no labels, with these scores after each stage."""
    results = Results("r", 0, "sim", ["sim", "rain"], ["rain"], [1])
    for number, scores in enumerate(stages):
        entry = {"miou": None, "reason": "unlabelled", "label_free": scores}
        row = {"running": {"sim": {"miou": 50.0}, "rain": entry}}
        results.add("source" if not number else "rain", row)
    return results


# --- signs of a failure ---------------------------------------------------------------------------

HEALTHY = found(entropy=15.0, mirror=94.0, shares=(55.0, 42.0, 3.0))
GONE = found(shares=(61.0, 38.9, 0.1))
COLLAPSED = found(entropy=5.0, mirror=80.0)


def test_a_class_that_vanished_and_a_collapse_are_told() -> None:
    assert gone_wrong(found(), GONE) == ["pole vanished (2.0 % of the pixels before, 0.1 now)"]
    assert gone_wrong(found(), COLLAPSED) == [
        "entropy collapsed (40.0 to 5.0) while agreement with mirror images fell (90.0 to 80.0)"
    ]


@pytest.mark.parametrize(
    "after",
    [
        HEALTHY,  # much surer, and steadier
        found(entropy=5.0, mirror=89.0),  # no less steady than chance has it
        found(entropy=30.0, mirror=70.0),  # less steady, but hardly surer
        found(entropy=5.0, mirror=None),  # not measured
        found(shares=(60.0, 39.7, 0.3)),  # a tenth is left
    ],
)
def test_nothing_is_told_without_a_sign(after: dict[str, Any]) -> None:
    assert gone_wrong(found(), after) == []


def test_a_class_that_was_hardly_there_may_go() -> None:
    assert gone_wrong(found(shares=(60.0, 39.0, 1.0)), found(shares=(60.0, 40.0, 0.0))) == []


def test_the_sentence_of_a_domain() -> None:
    assert sentence(rainy(found(), HEALTHY), "running", "rain") == (
        "rain has no labels: nothing here says that adaptation went wrong, and no number says how"
        " good it is."
    )
    harmed = rainy(found(), GONE)
    assert sentence(harmed, "running", "rain") == (
        "warning: rain: adaptation seems to have gone wrong: pole vanished (2.0 % of the pixels"
        " before, 0.1 now); look at the pictures."
    )
    assert len(stage_warnings(harmed, "running")) == 1
    # The stage that did it is named, and no later one.
    assert stage_warnings(rainy(found(), GONE, GONE), "running") == []
    assert stage_warnings(rainy(found()), "running") == []


def test_the_table_fits_80_columns() -> None:
    results = rainy(found(), HEALTHY)
    assert unlabelled(results, "running") == ["rain"]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(label_free_table(results, "running", "rain").terminal())
    lines = captured.get().splitlines()
    assert lines[0] == "rain, without labels, in percent, running statistics"
    assert max(map(len, lines)) <= 80
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["entropy", "40.0", "15.0", "-25.0"],
        ["mutual information", "30.0", "30.0", "+0.0"],
        ["agreement with mirror images", "90.0", "94.0", "+4.0"],
        ["share of road", "60.0", "55.0", "-5.0"],
        ["share of sky", "38.0", "42.0", "+4.0"],
        ["share of pole", "2.0", "3.0", "+1.0"],
    ]


def test_results_of_earlier_versions_have_nothing_to_show() -> None:
    old = Results("r", 0, "sim", ["sim", "rain"], ["rain"], [1])
    for name in ("source", "rain"):
        entries = {"sim": {"miou": 50.0}, "rain": {"miou": None, "reason": "unlabelled"}}
        old.add(name, {"running": entries})
    assert unlabelled(old, "running") == []
    assert stage_warnings(old, "running") == []
    assert ranking(old, "running") is None


# --- ranking --------------------------------------------------------------------------------------


def test_ranks_and_their_correlation_are_those_by_hand() -> None:
    assert ranks([0.3, 0.1, 0.3, 0.9]) == [2.5, 1, 2.5, 4]
    assert spearman([1, 2, 3], [10, 20, 30]) == 1
    assert spearman([1, 2, 3], [9, 8, 7]) == -1
    # Ranks 1, 2, 3, 4 and 1.5, 1.5, 3, 4: 4.5 / sqrt(5 * 4.5).
    assert spearman([1, 2, 3, 4], [5, 5, 6, 7]) == pytest.approx(4.5 / (5 * 4.5) ** 0.5)
    assert spearman([1, 2, 3], [4, 4, 4]) is None
    assert spearman([1], [2]) is None


def scored(*mious: float, entropies: tuple[float, ...]) -> Results:
    """A run of one labelled target; mutual information is the same throughout."""
    results = Results("r", 0, "sim", ["sim", "city"], ["city"], [1])
    for miou, entropy in zip(mious, entropies, strict=True):
        city = {"miou": miou, "label_free": found(entropy=entropy, mirror=None)}
        results.add("a", {"running": {"sim": {"miou": 50.0}, "city": city}})
    return results


def test_less_entropy_is_better_and_few_networks_prove_nothing() -> None:
    few = ranking(scored(20, 30, 40, entropies=(9, 8, 7)), "running")
    assert few is not None
    assert few.table.rows == [
        ["entropy", "+1.00", "+1.00"],
        ["mutual information", None, None],
        ["agreement with mirror images", None, None],
        ["agreement with the stage before", None, None],
    ]
    assert few.sentence == (
        "Only 3 networks of this run can be compared on 1 target: too few to trust any of these"
        " scores."
    )


def test_with_enough_networks_a_score_is_trusted_or_not() -> None:
    mious = (20, 30, 40, 50, 60)
    good = ranking(scored(*mious, entropies=(9, 8, 7, 6, 5)), "running")
    bad = ranking(scored(*mious, entropies=(5, 6, 7, 8, 9)), "running")
    assert good is not None
    assert bad is not None
    assert good.sentence == (
        "Of 5 networks on 1 target, entropy ranked them much as labels do (a correlation of 0.7 or"
        " more); do not choose by the others. Another run may differ."
    )
    assert bad.sentence == (
        "Of 5 networks on 1 target, no score has a correlation of 0.7 or more: choose by none of"
        " them."
    )


# --- scores of several networks, and for loggers --------------------------------------------------


def test_networks_are_compared_on_a_domain_without_labels() -> None:
    results = rainy(found(), found(entropy=20.0, mirror=None))
    assert without_labels(results, "running") == ["rain"]
    table = networks_table(results, "running", "rain")
    assert table.header == [
        "network",
        "entropy",
        "mutual information",
        "agreement with mirror images",
    ]
    assert table.rows == [["source", 40.0, 30.0, 90.0], ["rain", 20.0, 30.0, None]]


def test_loggers_get_what_was_measured() -> None:
    results = rainy(found(mirror=None))
    assert logged_scores(results.steps[0]["scores"]) == {
        "miou/running/sim": 50.0,
        "entropy/running/rain": 40.0,
        "mutual_information/running/rain": 30.0,
    }
