"""Online methods against plain prediction: what runs, what is kept, and what the page says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import keeping, online_rounds, online_study
from benchmarks.online_study import SCENES, STUDIES, TRIED, Arm, Study
from muhdi.recipe.online import LearnerConfig, MomentsConfig, read_online

TINY = replace(
    SCENES,
    settings=(
        "extra_domains=[{dataset: scenes, domain: fog, train: 2, val: 1}]",
        "online={rounds: 2, images: 2}",
        "image_size=[64, 32]",
        "source.train=4",
        "source.val=1",
        "source_training={iterations: 1, batch_size: 2}",
        "evaluation={statistics: [image], samples: 1}",
    ),
    domains=("fog",),
    tried={"bn": TRIED["bn"][:2], "tent": TRIED["tent"][:1]},
    chosen_on=(1,),
    seeds=(2,),
)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is kept in a folder of this test."""
    monkeypatch.setattr(keeping, "RUNS", tmp_path / "runs")


@pytest.mark.parametrize("study", STUDIES.values(), ids=lambda study: study.name)
def test_kept_runs_are_of_the_study(study: Study) -> None:
    assert not set(study.chosen_on) & set(study.seeds)
    arms = study.controls() | study.all_candidates()
    for run, entry in keeping.read(study.name).items():
        name, _, seed = run.rpartition("_seed")
        assert entry == study.said(arms[name], int(seed)) | {"results": entry["results"]}, run
        assert len(entry["results"]["rounds"]) == study.recipe(1).online.rounds
        assert tuple(entry["results"]["rounds"][0]) == study.domains


def test_defaults_are_among_what_is_tried() -> None:
    for method, sections in TRIED.items():
        found = [read_online(section["method"], without_method(section)) for section in sections]
        usual = read_online(found[0].method, {})
        if isinstance(usual, MomentsConfig):
            assert usual in found
        else:
            assert isinstance(usual, LearnerConfig)
            rates = [one.learning_rate for one in found if isinstance(one, LearnerConfig)]
            assert usual.learning_rate in rates, method
            assert rates == sorted(set(rates))


def without_method(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "method"}


def test_candidates_run_first_and_what_was_chosen_runs_on_other_seeds(
    kept: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online_study.collect(TINY, tmp_path)
    known = keeping.read(TINY.name)
    everything = {*TINY.controls(), "bn_0.03", "bn_0.1", "tent_7.5e-06"}
    assert {run for run in known if run.endswith("_seed1")} == {f"{a}_seed1" for a in everything}
    chosen = TINY.chosen()
    best = max(("bn_0.03", "bn_0.1"), key=lambda arm: average(known[f"{arm}_seed1"]))
    assert chosen == {"bn": best, "tent": "tent_7.5e-06"}
    reported = {*TINY.controls(), *chosen.values()}
    assert {run for run in known if run.endswith("_seed2")} == {f"{a}_seed2" for a in reported}
    assert known["none_running_seed1"]["results"]["used"] == "running"
    assert known["bn_0.1_seed1"]["results"]["used"] == "running", "bn begins with them"
    assert known["tent_7.5e-06_seed1"]["results"]["used"] == "image"
    before = known["none_seed1"]["results"]["rounds"]
    assert before[0] == before[1], "plain prediction learns nothing"
    page = online_rounds.section(TINY)
    assert "; 2 rounds of 2 images of each domain, " in page
    assert f"| **{best}** |" in page

    # What is kept does not run again, but an arm that means something else does.
    again: list[tuple[str, int]] = []

    def measured(study: Study, arm: Arm, seed: int, network: Path, output: Path) -> dict[str, Any]:
        again.append((output.name, seed))
        return known["none_seed1"]["results"]

    monkeypatch.setattr(online_study, "source_network", lambda *given: tmp_path)
    monkeypatch.setattr(online_study, "measure", measured)
    online_study.collect(TINY, tmp_path)
    assert again == []
    changed = {**TINY.tried, "tent": ({**TINY.tried["tent"][0], "moves": "all"},)}
    online_study.collect(replace(TINY, tried=changed), tmp_path)
    assert again == [("tent_7.5e-06", 1), ("tent_7.5e-06", 2)]


def average(entry: dict[str, Any]) -> float:
    rounds = entry["results"]["rounds"]
    return sum(scores["fog"] for scores in rounds) / len(rounds)


MADE_UP = replace(TINY, name="made_up", chosen_on=(1, 2), seeds=(11, 12, 13))


def keep(scores: dict[str, dict[int, tuple[float, float]]]) -> None:
    """Keep scores of the only domain: by arm and seed, of two rounds."""
    known = {}
    for arm, by_seed in scores.items():
        for seed, values in by_seed.items():
            rounds = [{"fog": value} for value in values]
            results = {"rounds": rounds, "resets": seed, "used": "image"}
            known[f"{arm}_seed{seed}"] = {"results": results}
    keeping.write(MADE_UP.name, known)


def made_up(bn: float, tent: float) -> dict[str, dict[int, tuple[float, float]]]:
    """Arms that score so many points more than plain prediction, with a little spread."""
    more = {"none": 0.0, "none_running": -9.0, "none_blend": 0.1, "bn_0.03": bn - 3, "bn_0.1": bn}
    more["tent_7.5e-06"] = tent
    found = {}
    for arm, points in more.items():
        found[arm] = {
            seed: (40 + seed + points, 41 + seed + 1.01 * points) for seed in (1, 2, 11, 12, 13)
        }
    found["bn_0.1"][12] = (52 + bn + 0.2, 53 + bn + 0.2)
    return found


def test_a_method_that_gains_nothing_is_said_to_gain_nothing(
    kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_rounds, "STUDIES", {"made": MADE_UP})
    keep(made_up(bn=0.4, tent=-4.0))
    page = online_rounds.sections()
    assert "* `bn_0.1` gains nothing that can be told from noise (+0.5 points)." in page
    assert "* `tent_7.5e-06` loses 4.0 points." in page
    assert "with which it begins, `none_running`: it gains 9.5 points." in page
    scores = "43.5 ± 1.0 | 42.5, 43.5, 44.5 | -9.0 | -9.0, -9.0, -9.0 | 43.0 ± 1.0 | 43.9 ± 1.0"
    assert f"| none_running | {scores} | 11, 12, 13 | image | 43.5 ± 1.0 |" in page
    (row,) = (line for line in page.splitlines() if line.startswith("| bn_0.1 |"))
    assert "| +0.5 (within the noise) | +0.4, +0.6, +0.4 |" in row
    assert "| **bn_0.1** |" in page


def test_a_gain_is_told_by_its_points(kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_rounds, "STUDIES", {"made": MADE_UP})
    keep(made_up(bn=3.0, tent=0.0))
    page = online_rounds.sections()
    assert "* `bn_0.1` gains 3.1 points." in page
    assert "* `tent_7.5e-06` gains nothing that can be told from noise (+0.0 points)." in page


@pytest.mark.parametrize("missing", [("bn_0.03", 2), ("none_blend", 12), ("tent_7.5e-06", 13)])
def test_a_study_that_is_not_finished_is_not_shown(
    kept: None, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, int]
) -> None:
    monkeypatch.setattr(online_rounds, "STUDIES", {"made": MADE_UP})
    scores = made_up(bn=1.0, tent=1.0)
    arm, seed = missing
    del scores[arm][seed]
    keep(scores)
    assert online_rounds.sections() == ""


def test_the_command_prints_the_page_and_refuses_other_studies(
    kept: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(online_rounds, "STUDIES", {"made": MADE_UP})
    keep(made_up(bn=1.0, tent=1.0))
    online_rounds.main(["--collect"])
    printed = capsys.readouterr().out
    assert "## Adapting while predicting" in printed
    assert printed == f"{online_rounds.sections()}\n"
    with pytest.raises(SystemExit) as end:
        online_rounds.main(["--only", "city"])
    assert end.value.code == 2
    assert "invalid choice: 'city'" in capsys.readouterr().err
