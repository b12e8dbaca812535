"""What the end of a sweep says: which differences are left after a correction for many arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from muhdi import MuhdiError, Recipe, Results
from muhdi.recipe.orders import in_order, own_order
from muhdi.report.run_files import RunData
from muhdi.report.significance import Difference, holm
from muhdi.report.sweep import SweepReport, check_comparable, control_arm

NONE = ("every_step.adaptation=none", "every_step.retention=none")


def run(arm: str, seed: int, score: float, order: Sequence[str] = (), *changes: str) -> RunData:
    """A run that ends with this mIoU on every target."""
    recipe = Recipe.load("scenes", [f"name={arm}", *changes], seed)
    recipe = in_order(recipe, order) if order else recipe
    targets = list(own_order(recipe))
    results = Results(recipe.name, seed, "sim", ["sim", *targets], targets, [1, 2, 3])
    entry = {"miou": score, "iou": {"road": score}}
    for stage in recipe.stages():
        results.add(stage.name, {"running": dict.fromkeys(results.domains, entry)})
    return RunData(Path(recipe.name), recipe, "", results, [], [], [])


def arm(name: str, scores: Sequence[float], *changes: str) -> list[RunData]:
    return [run(name, seed, score, (), *changes) for seed, score in enumerate(scores)]


def test_p_of_a_paired_t_test() -> None:
    # With two degrees of freedom, p = 1 - t / sqrt(2 + t^2); here t = 2 / (1 / sqrt(3)).
    assert Difference((1.0, 2.0, 3.0)).p == pytest.approx(1 - math.sqrt(12 / 14), abs=1e-12)
    assert Difference((-3.0, -2.0, -1.0)).p == Difference((1.0, 2.0, 3.0)).p
    assert Difference((2.0,)).p is None
    assert Difference((2.0, 2.0)).p == 0
    assert Difference((0.0, 0.0)).p == 1


def test_holm() -> None:
    # 3 x 0.01, then 2 x 0.03, then 0.04, which may not be below the one before.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_a_difference_may_be_lost_to_the_correction() -> None:
    # Differences 2, 3, 4 (t^2 = 27) and -1, -1, 17.
    plain = arm("plain", (20, 22, 24), *NONE)
    better = arm("better", (22, 25, 28))
    lucky = arm("lucky", (19, 21, 41))
    alone = SweepReport([*better, *plain])
    assert alone.control == "plain"
    p = 1 - math.sqrt(27 / 29)
    assert alone.compared("running")["better"].corrected == pytest.approx(p)
    assert alone.compared("running")["better"].verdict == "higher"
    assert "better averages 3.0 more than plain" in alone.readings()[0]

    several = SweepReport([*better, *lucky, *plain])
    found = several.compared("running")
    assert found["better"].corrected == pytest.approx(2 * p)
    assert {name: each.verdict for name, each in found.items()} == {
        "better": "within the noise",
        "lucky": "within the noise",
    }
    (table,) = (each for each in several.tables("running") if "Holm" in each.title)
    assert table.rows[0] == ["better", "3", "+3.0 ± 2.5", "0.035", "0.070", "within the noise"]
    assert several.readings() == [
        "With running statistics, against plain, corrected for 2 arms (Holm): none differs by more"
        " than the noise."
    ]


def test_the_page_of_a_sweep_finds_no_more_than_the_terminal(tmp_path: Path) -> None:
    plain = arm("plain", (20, 22, 24), *NONE)
    better = arm("better", (22, 25, 28))
    lucky = arm("lucky", (19, 21, 41))
    several = SweepReport([*better, *lucky, *plain])
    page, _ = several.write(tmp_path)
    text = page.read_text()
    assert several.readings()[0] in text
    assert "averages 3.0 more" not in text
    # A table of averages, and one of forgetting: these networks forget nothing.
    section = text.partition('id="differences"')[2].partition("</section>")[0]
    assert section.count("<table") == 2
    assert "Holm&#39;s correction for 2 arms" in section
    assert several.compared("running", "forgetting")["lucky"].difference.values == (0, 0, 0)
    assert "its p value is below 0.05 once it is corrected" in text
    assert "higher" not in text
    alone = SweepReport([*better, *plain])
    page, _ = alone.write(tmp_path)
    assert "averages 3.0 more than plain" in page.read_text()


def test_the_page_of_a_sweep_with_orders_averages_them_first(tmp_path: Path) -> None:
    orders = [["city", "dust", "night"], ["night", "dust", "city"]]
    runs = []
    for name, by_order in {"plain": ((20, 21), (22, 25)), "better": ((30, 33), (34, 35))}.items():
        for order, scores in zip(orders, by_order, strict=True):
            runs += [run(name, seed, score, order) for seed, score in enumerate(scores)]
    page, _ = SweepReport(runs, "plain").write(tmp_path)
    text = page.read_text()
    assert "Over all orders" in text
    assert "The orders of a seed are averaged first." in text
    assert (
        "<td>better_order" not in text.partition('id="differences"')[2].partition("</section>")[0]
    )


def test_what_is_significant_may_be_too_small() -> None:
    report = SweepReport([*arm("plain", (20, 21, 22)), *arm("close", (21, 22, 23.01))])
    assert report.compared("running")["close"].corrected < 0.001
    assert report.compared("running")["close"].verdict == "within the noise"


def test_one_seed_is_no_test() -> None:
    report = SweepReport([run("plain", 1, 20), run("better", 1, 40), run("worse", 1, 10)])
    assert report.tables("running")[-1].rows[0][3:] == ["-", "-", "one seed, no test"]
    assert "one seed is no test" in report.readings()[0]


def test_orders_are_averaged_before_arms_are_compared() -> None:
    orders = [["city", "dust", "night"], ["night", "dust", "city"]]
    runs = []
    for name, by_order in {"plain": ((20, 21), (22, 25)), "better": ((30, 33), (34, 35))}.items():
        for order, scores in zip(orders, by_order, strict=True):
            runs += [run(name, seed, score, order) for seed, score in enumerate(scores)]
    report = SweepReport(runs, "plain")
    # Seed 0: 10 and 12; seed 1: 12 and 10. Two orders of a seed are no further evidence.
    assert report.compared("running")["better"].difference.values == (11, 11)
    arms, over_orders, _ = report.tables("running")
    assert [row[0] for row in arms.rows] == [
        "plain_order_city-dust-night",
        "plain_order_night-dust-city",
        "better_order_city-dust-night",
        "better_order_night-dust-city",
    ]
    plain = over_orders.rows[0]
    # Means of the seeds are 21 and 23, of the orders 20.5 and 23.5.
    assert (plain[0], plain[1], plain[2].mean, plain[3:]) == ("plain", "2", 22, [20.5, 23.5])
    assert report.controls["better_order_night-dust-city"] == "plain_order_night-dust-city"


def test_the_orders_of_one_recipe_are_its_arms() -> None:
    runs = []
    for order, score in ((["city", "dust", "night"], 20), (["night", "dust", "city"], 30)):
        runs += [run("mine", seed, score + seed, order) for seed in (0, 1)]
    report = SweepReport(runs)
    assert report.control == "mine_order_city-dust-night"
    assert list(report.compared("running")) == ["mine_order_night-dust-city"]
    assert "averages 10.0 more than mine_order_city-dust-night" in report.readings()[0]


def test_arms_of_a_single_order_are_compared(tmp_path: Path) -> None:
    runs = []
    for name, score in {"plain": 20, "better": 30}.items():
        runs += [run(name, seed, score + seed, ["night", "dust", "city"]) for seed in (0, 1)]
    report = SweepReport(runs)
    control = "plain_order_night-dust-city"
    assert set(report.controls.values()) == {control}
    assert f"averages 10.0 more than {control}" in report.readings()[0]
    assert report.write(tmp_path)[0].exists()


def test_the_control_is_the_arm_without_a_method() -> None:
    plain = Recipe.load("scenes", ["name=plain", *NONE], 1)
    listed = Recipe.load("scenes", ["name=plain", NONE[0], "every_step.retention=[none]"], 1)
    mine = Recipe.load("scenes", ["name=mine"], 1)
    masked = Recipe.load("scenes", ["name=masked", *NONE, "every_step.adaptation.masked={}"], 1)
    assert control_arm([mine, masked, plain], None) == "plain"
    assert control_arm([mine, listed], None) == "plain"
    assert control_arm([mine, masked], None) == "mine"
    assert control_arm([mine, plain], "mine") == "mine"
    with pytest.raises(MuhdiError, match="--control plian: no such arm; did you mean 'plain'"):
        control_arm([mine, plain], "plian")


def test_recipes_of_other_domains_cannot_be_compared() -> None:
    scenes = Recipe.load("scenes")
    joint = Recipe.load("scenes2_joint")
    check_comparable([Recipe.load("scenes2_selftrain"), joint, joint])
    with pytest.raises(MuhdiError, match=r"scenes2_joint: its domains .* are not those of scenes "):
        check_comparable([scenes, joint])
    fewer = Recipe.load("scenes", ["name=fewer", f"steps=[{scenes.steps[0].model_dump_json()}]"])
    with pytest.raises(MuhdiError, match=r"fewer: its domains .city, sim; targets: city. are not"):
        check_comparable([scenes, fewer])


def test_recipes_scored_with_other_statistics_cannot_be_compared() -> None:
    one, other, both = (
        Recipe.load(
            "scenes", [f"name={name}", f"evaluation={{statistics: {kinds}, default: {kind}}}"]
        )
        for name, kinds, kind in (
            ("one", "[running]", "running"),
            ("other", "[image]", "image"),
            ("both", "[running, image]", "running"),
        )
    )
    check_comparable([both, one, one])
    with pytest.raises(
        MuhdiError, match=r"other: evaluation.statistics .image. must have one .* .one: running."
    ):
        check_comparable([one, other])
    with pytest.raises(MuhdiError, match=r"^other: evaluation.statistics"):
        check_comparable([both, one, other])


def test_runs_scored_with_other_statistics_are_refused() -> None:
    """Such as those of a network with layer norms, which has none to choose from."""
    layer_norm = run("layer_norm", 1, 20)
    for step in layer_norm.results.steps:
        step["scores"] = {"none": step["scores"]["running"]}
    with pytest.raises(
        MuhdiError,
        match=r"^layer_norm_seed1: is scored with none statistics, plain_seed1 with runn",
    ):
        SweepReport([run("plain", 1, 20), layer_norm])


def test_the_tables_are_of_the_statistics_that_all_runs_have() -> None:
    first = run("first", 1, 20)
    for step in first.results.steps:
        step["scores"] = {"image": step["scores"]["running"], **step["scores"]}
    report = SweepReport([first, run("second", 1, 21)])
    assert report.statistics == ["running"]
    assert [row[0] for row in report.tables(report.main)[0].rows] == ["first", "second"]
