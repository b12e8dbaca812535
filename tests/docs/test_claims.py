"""What README and docs/methods.md say of accuracy is what the kept runs say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from statistics import mean

from benchmarks import arms, parts, results, retention_studies, tutorial
from muhdi.evaluation.results import Results
from muhdi.report.result_table import spread, text
from muhdi.report.significance import Compared, against_reading

README = " ".join((results.HERE.parent / "README.md").read_text().split())
METHODS = " ".join((results.HERE.parent / "docs" / "methods.md").read_text().split())


def test_readme_s_table_is_what_the_kept_runs_say() -> None:
    readme = (results.HERE.parent / "README.md").read_text()
    rows = dict(
        re.findall(r"^\| ((?:control|self-training|oracle)[^|]*) \| (.+) \|$", readme, re.M)
    )
    arms_shown = ["none", "selftrain", "muhdi", "style", "joint", "oracle"]
    assert len(rows) == len(arms_shown)
    runs = retention_studies.SCENES.finished()
    for arm, cells in zip(arms_shown, rows.values(), strict=True):
        image = [run.summary("image").average for run in runs[arm]]
        running = [run.summary("running").average for run in runs[arm]]
        forgotten = [run.summary("running").forgetting for run in runs[arm]]
        expected = [text(spread(values)) for values in (image, running, forgotten)]
        assert cells.split(" | ") == expected, arm


def test_the_table_of_retentions_says_what_the_kept_runs_say() -> None:
    scenes, camvid, india = retention_studies.WITH_SOURCE
    near = ("distill", "muhdi", "l2sp", "restore", "average", "blend", "ewc", "mas")
    gains = [value for study in (scenes, camvid, india) for value in _gains(study, near)]
    assert round(max(map(abs, gains)), 1) == 1.0
    for study in (scenes, camvid, india):
        runs = study.finished()
        for kind in study.statistics:
            for arm in ("distill", "muhdi"):
                said = against_reading(arm, runs[arm], study.control, runs[study.control], kind)
                assert not re.search(r"forgets \d+\.\d less\.$", said), said
    style = retention_studies.CONFIRMATION
    image, running = (value.removeprefix("+") for value in _gained(style, "style"))
    assert f"{image} points with `image` and {running} with `running` statistics on" in METHODS
    assert all(found.holds for found in _differences(style, ["style"]))
    low, high = _range(camvid, ["style"])
    image, running = (_gained_in_the_tutorial(kind) for kind in ("image", "running"))
    told = f"{min(image):.1f} to {max(image):.1f} and {min(running):.0f} to {max(running):.0f}"
    assert f"{told} in the [tutorial](tutorial.md), a single step" in METHODS
    assert f"({low} to {high} on CamVid, {_only(india, 'style')} on CamVid with IDD" in METHODS
    best = [_range(study, ["replay"])[1] for study in (scenes, camvid)]
    assert f"at best {best[0]} on the drawn scenes and {best[1]} on CamVid, with" in METHODS
    assert not any(found.holds for found in _differences(scenes, ["replay", *near]))
    five, eight = (_gained(one, "joint")[1].removeprefix("+") for one in (scenes, style))
    assert f"with `running` {five} more (five seeds, noise) and {eight} more (eight, sig" in METHODS
    assert [_differences(one, ["joint"])[1].holds for one in (scenes, style)] == [False, True]
    joint = [value.removeprefix("+") for value in _range(camvid, ["joint"])]
    abroad = [value.removeprefix("+").removeprefix("-") for value in _range(india, ["joint"])]
    said = f"{joint[0]} to {joint[1]} and on CamVid with IDD Lite {abroad[0]} to {abroad[1]}"
    assert f"on CamVid {said}, which is noise" in METHODS


def _gained_in_the_tutorial(statistics: str) -> list[float]:
    """What `style` has more than nothing kept after the tutorial's step, by seed."""
    after = {}
    for row in json.loads(tutorial.MEASURED.read_text())["rows"]:
        after.setdefault(row["arm"], []).append(row["miou_before_and_after"][statistics][1])
    both = (after["self-training, `style`"], after["self-training, nothing kept"])
    return [more - less for more, less in zip(*both, strict=True)]


def test_what_is_said_of_the_parts_is_what_the_kept_runs_say() -> None:
    for study in parts.STUDIES.values():
        runs = study.finished()
        assert len(runs) > 1
        # A part helps if it is better than without by more than the noise, whatever the statistics.
        for kind in study.statistics:
            found = arms.differences_to_control(study, runs, kind)
            helped = [arm for arm, one in found.items() if one.holds and one.difference.mean > 0]
            assert helped == []
    control = _differences(parts.SCENES, ["none"])
    assert not any(found.holds for found in control)
    low, high = (value.removeprefix("-") for value in reversed(_range(parts.SCENES, ["none"])))
    assert f"even the control, {low} to {high} points lower on the scenes, counts as" in README


def test_what_is_said_of_layer_norms_is_what_the_kept_runs_say() -> None:
    study = retention_studies.LAYER_NORM
    (style,) = _differences(study, ["style"])
    assert style.holds
    gained = f"{style.difference.mean:.1f} points"
    assert f"`style` gains more: {gained} on the drawn scenes (three seeds, significant)" in METHODS
    assert f"as transformers have, `style` averages {gained} more (three seeds, signif" in README
    runs = study.finished()
    _, day = arms.after_the_last_step("day")
    source = [mean(day(run, "none") for run in runs[arm]) for arm in ("selftrain", "style")]
    lost = f"for {source[0] - source[1]:.1f} on the source"
    assert lost in METHODS
    assert lost in README
    others = ("distill", "muhdi", "average", "replay", "joint")
    assert not any(found.holds for found in _differences(study, others))
    most, least = (value.removeprefix("-") for value in _range(study, others))
    assert f"and `replay` end {least} to {most} points below keeping nothing there" in METHODS
    assert f"all targets at once {_only(study, 'joint').removeprefix('-')}, which is" in METHODS


def test_what_is_said_of_long_steps_is_what_the_kept_runs_say() -> None:
    study = retention_studies.LONG
    forgotten = []
    for one in (study, retention_studies.SCENES):
        runs = one.finished()["selftrain"]
        forgotten.append(mean(run.summary("running").forgetting for run in runs))
    long, short = forgotten
    said = f"{long:.1f} points with `running` statistics where nothing is kept, with 150 iterations"
    assert f"forget no more: {said} {short:.1f} (five seeds)" in METHODS
    image, running = (value.removeprefix("+") for value in _gained(study, "style"))
    assert f"averages {image} points more with `image` and {running} with `running` stat" in METHODS
    assert f"in place of 150, {image} and {running} more (three seeds, noise once corr" in README
    assert (
        min(value for one in _differences(study, ["style"]) for value in one.difference.values) > 0
    )
    most = max(map(abs, _gains(study, ["distill", "average"])))
    assert f"`distill` and `average` differ from keeping nothing by {most:.1f} points at" in METHODS
    joint = _gained(study, "joint")
    assert f"targets at once by {joint[0]} (`image`) and {joint[1]} (`running`), which" in METHODS
    arms_run = ["style", "distill", "average", "joint"]
    assert not any(found.holds for found in _differences(study, arms_run))


def test_what_is_said_of_the_first_edition_is_on_the_page_of_results() -> None:
    page = results.PAGE.read_text()
    of_running = "MuHDi averages 4.3 less than sequential self-training on the targets, and forgets"
    assert f"With running statistics (3 seeds), {of_running} 6.4 less.\n" in page
    of_domain = "MuHDi averages 4.0 more than sequential self-training on the targets (within the"
    assert f"With domain statistics (3 seeds), {of_domain} noise), and forgets 9.5 less.\n" in page
    said = "6.4 points less with `running` and 9.5 with `domain` statistics, but averaged 4.3 less"
    assert said in METHODS


def test_what_is_said_of_photographs_is_what_the_kept_runs_say() -> None:
    lost = []
    for study in (retention_studies.CAMVID, retention_studies.INDIA):
        runs = study.finished()
        for kind in ("blend", "running"):
            values = [run.summary(kind).before_return for run in runs["selftrain"]]
            lost.append(f"{mean(values):.1f}")
            compared = arms.differences_to_control(study, runs, kind)
            assert compared.keys() >= {"distill", "muhdi", "style", "replay", "joint", "oracle"}
            assert not any(found.holds for found in compared.values())
    camvid = f"had lost {lost[0]} points (`blend`) and {lost[1]} (`running`) when it came back"
    assert f"{camvid}, after a step in India (IDD Lite) {lost[2]} and {lost[3]}." in METHODS


def test_what_is_said_of_steps_without_the_source_is_what_the_kept_runs_say() -> None:
    runs = retention_studies.FREE_CONFIRMATION.finished()
    image = _target_averages(runs, "image")
    running = _target_averages(runs, "running")
    assert f"it ended at {image['selftrain']:.1f} with `image` statistics (eight seeds)" in METHODS
    assert f"where no adaptation has {image['none']:.1f}:" in METHODS
    assert f"With `distill` it ended at {image['distill']:.1f}, significantly more" in METHODS
    over_none = running["distill"] - running["none"]
    assert f"Over no adaptation that is {over_none:.1f} points with `running`" in METHODS
    gained = [found["distill"] - found["selftrain"] for found in (image, running)]
    assert f"{gained[0]:.1f} points with `image` statistics on the drawn scenes (eight" in METHODS
    assert f"significant) and {gained[1]:.1f} with `running` (noise)" in METHODS
    camvid = retention_studies.STUDIES["free_camvid"].finished()
    after = _target_averages(camvid, "blend")
    begun = _target_averages({"begun": arms.before_any_step(camvid["none"])}, "blend")["begun"]
    selftrain = f"self-training at {after['selftrain']:.1f}"
    assert f"{begun:.1f} with `blend` statistics: {selftrain}" in METHODS
    assert f"`distill` at {after['distill']:.1f}, no adaptation at {after['none']:.1f}," in METHODS
    assert max(after.values()) < begun
    for run in runs["selftrain"]:
        first, *_ = _warnings_of(run)
        assert int(first.split()[1].rstrip(":")) <= 100
    assert not any(_warnings_of(run) for run in [*runs["distill"], *runs["none"]])


def _target_averages(runs: arms.Runs, statistics: str) -> dict[str, float]:
    """What each arm averages over the targets, the mean of its seeds."""
    return {arm: mean(run.summary(statistics).average for run in runs[arm]) for arm in runs}


def _warnings_of(run: Results) -> list[str]:
    """What a run said of classes that vanish, in turn."""
    remarks = [remark for step in run.steps for remark in step.get("remarks", [])]
    return [remark for remark in remarks if "the class is vanishing" in remark]


def test_what_is_said_of_running_statistics_is_what_the_kept_runs_say() -> None:
    scenes = retention_studies.FREE_SCENES_STATISTICS
    camvid = retention_studies.FREE_CAMVID_STATISTICS
    both = [_gained(camvid, arm) for arm in ("distill_statistics", "distill")]
    (blend, running), (blend_alone, running_alone) = both
    assert f"at {blend} with `blend` and {running} with `running` statistics" in METHODS
    assert f"further seeds; `distill` alone: {blend_alone} and {running_alone})" in METHODS
    ran = camvid.finished()
    added = [
        against_reading("both", ran["distill_statistics"], "distill", ran["distill"], kind)
        for kind in camvid.statistics
    ]
    assert "averages 2.5 more than distill on the targets, and" in added[0]
    assert "averages 3.6 more than distill on the targets, and" in added[1]
    assert "adds 2.5 and 3.6 points to `distill`, both significant" in METHODS
    kept, alone = (_gained(scenes, arm) for arm in ("distill_statistics", "distill"))
    assert f"{kept[0]} with `image`, {kept[1]} with `blend` and {kept[2]} with `running`" in METHODS
    assert f"`distill` alone: {alone[0]}, {alone[1]} and {alone[2]})" in METHODS
    runs = scenes.finished()
    judged = [
        arms.differences_to_control(scenes, runs, kind)["distill_statistics"].holds
        for kind in ("image", "blend", "running")
    ]
    assert judged == [False, True, True], "the last two are significant"
    on_camvid, on_scenes = (
        _gained(study, "statistics")[0].removeprefix("-") for study in (camvid, scenes)
    )
    assert f"{on_camvid} (`blend`, CamVid) and {on_scenes} points (`image`, drawn" in METHODS
    lost = []
    for kind in scenes.statistics:
        _, day = arms.after_the_last_step("day")
        before, after = (
            mean(day(run, kind) for run in runs[arm]) for arm in ("untouched", "distill_statistics")
        )
        lost.append(f"{before - after:.1f}")
    assert f"for {min(lost)} to {max(lost)} points on the source" in README
    assert f"the source lost {min(lost)} to {max(lost)}." in METHODS
    gained = [value.removeprefix("+") for value in kept[1:]]
    assert f"gains {gained[0]} points with `blend` and {gained[1]} with `running`" in README
    for kind in camvid.statistics:
        found = arms.differences_to_control(camvid, camvid.finished(), kind)
        assert not found["distill_statistics"].holds


def _differences(study: arms.Study, names: Sequence[str]) -> list[Compared]:
    """Of arms to the study's control, with each choice of statistics; of those that ran."""
    runs = study.finished()
    found = [arms.differences_to_control(study, runs, kind) for kind in study.statistics]
    return [by_arm[arm] for arm in names for by_arm in found if arm in by_arm]


def _gains(study: arms.Study, names: Sequence[str]) -> list[float]:
    """What arms have more than the study's control."""
    return [found.difference.mean for found in _differences(study, names)]


def test_what_is_said_of_india_without_the_source_is_what_the_kept_runs_say() -> None:
    study = retention_studies.FREE_INDIA
    runs = study.finished()
    over = {}
    for arm in ("distill_statistics", "distill", "selftrain", "replay"):
        gains = []
        for kind in study.statistics:
            averages = _target_averages(runs, kind)
            gains.append(f"{averages[arm] - averages['untouched']:+.1f}")
        over[arm] = " and ".join(gains)
    both = f"it was {over['distill_statistics']}, with `distill` alone {over['distill']}, with"
    assert f"(CamVid and IDD Lite, three seeds) {both}" in METHODS
    assert f"keeps nothing {over['selftrain']}, and with `replay` {over['replay']}. On" in METHODS


def _gained(study: arms.Study, arm: str) -> list[str]:
    """The same of one arm, as pages write it."""
    return [f"{value:+.1f}" for value in _gains(study, [arm])]


def _range(study: arms.Study, names: Sequence[str]) -> tuple[str, str]:
    """The least and the most of it."""
    gains = _gains(study, names)
    return f"{min(gains):+.1f}", f"{max(gains):+.1f}"


def _only(study: arms.Study, arm: str) -> str:
    """What is the same with each choice of statistics."""
    (value,) = set(_gained(study, arm))
    return value
