"""What `benchmarks.online_rounds` runs: online methods on streams, at several learning rates.

Every method runs with several learning rates, `bn` with several momenta, on seeds that only choose
among them; what is chosen runs on other seeds, which are reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import muhdi
from benchmarks.keeping import digest, read, write
from muhdi.workflows.online_rounds import adapt_in_rounds

Section = dict[str, Any]
"""Of a method, as a recipe writes it."""
CONTROL = "none"
"""Plain prediction with the statistics that all methods begin with."""


@dataclass(frozen=True)
class Arm:
    """A method, and how the network is used with which it begins.

    Attributes:
        section: of the method.
        statistics: that batch norms normalise with, unless the method says otherwise.
    """

    section: Section
    statistics: str


@dataclass(frozen=True)
class Run:
    """What an arm scored on one seed.

    Attributes:
        rounds: by round, mIoU in percent of each domain.
        resets: how often the network had collapsed and was reset.
        used: statistics that batch norms normalised with.
    """

    rounds: tuple[Mapping[str, float], ...]
    resets: int
    used: str

    @property
    def by_round(self) -> list[float]:
        """Mean of the domains, by round."""
        return [mean(scores.values()) for scores in self.rounds]

    @property
    def average(self) -> float:
        """Mean of the domains and of the rounds."""
        return mean(self.by_round)

    def of_domain(self, domain: str) -> float:
        """Of a domain, mean of the rounds."""
        return mean(scores[domain] for scores in self.rounds)


Runs = dict[str, list[Run]]
"""By arm, one for each seed."""


@dataclass(frozen=True)
class Study:
    """A source network, a stream, and the methods that are tried on it.

    Attributes:
        name: of the kept runs.
        base: recipe of the source network.
        settings: what is changed of it; they describe the stream, too.
        domains: of the stream, in their order.
        statistics: that plain prediction uses, and every method unless it has its own.
        tried: sections by method; on `chosen_on` one of them is chosen for each.
        chosen_on: seeds that choose, and are not reported.
        seeds: that are reported, and choose nothing.
        title: of the tables, with the network.
    """

    name: str
    base: str
    settings: tuple[str, ...]
    domains: tuple[str, ...]
    statistics: str
    tried: Mapping[str, tuple[Section, ...]]
    chosen_on: tuple[int, ...]
    seeds: tuple[int, ...]
    title: str

    def recipe(self, seed: int, section: Section | None = None) -> muhdi.Recipe:
        """The recipe of the source network, or of an arm on its stream."""
        settings = [*self.settings]
        if section is not None:
            settings.append(f"online.methods={json.dumps([section])}")
        return muhdi.Recipe.load(self.base, settings, seed, name=self.name)

    def controls(self) -> dict[str, Arm]:
        """Plain prediction, with every choice of statistics."""
        plain = {"method": "none"}
        found = {CONTROL: Arm(plain, self.statistics)}
        for statistics in ("running", "blend", "image"):
            if statistics != self.statistics:
                found[f"{CONTROL}_{statistics}"] = Arm(plain, statistics)
        return found

    def candidates(self, method: str) -> dict[str, Arm]:
        """What is tried of a method, by name: that of the method, and what varies."""
        found = {}
        for section in self.tried[method]:
            varied = section.get("learning_rate", section.get("momentum"))
            found[f"{method}_{varied:g}"] = Arm(section, self.statistics)
        return found

    def all_candidates(self) -> dict[str, Arm]:
        """What is tried of all methods."""
        found: dict[str, Arm] = {}
        for method in self.tried:
            found |= self.candidates(method)
        return found

    def chosen(self) -> dict[str, str]:
        """Of each method the candidate with the highest mean on `chosen_on`.

        Empty as long as one of them has not run.
        """
        runs = self.finished(self.all_candidates(), self.chosen_on)
        if runs.keys() != self.all_candidates().keys():
            return {}
        found = {}
        for method in self.tried:
            found[method] = max(
                self.candidates(method), key=lambda arm: mean(run.average for run in runs[arm])
            )
        return found

    def reported(self) -> dict[str, Arm]:
        """The controls, and what is chosen of each method."""
        candidates = self.all_candidates()
        return self.controls() | {arm: candidates[arm] for arm in self.chosen().values()}

    def finished(self, arms: Mapping[str, Arm], seeds: Sequence[int]) -> Runs:
        """Kept runs of those arms of which every seed has run."""
        known = read(self.name)
        runs: Runs = {}
        for arm in arms:
            entries = [known.get(run_name(arm, seed)) for seed in seeds]
            there = [entry["results"] for entry in entries if entry is not None]
            if len(there) == len(seeds):
                runs[arm] = [Run(tuple(r["rounds"]), r["resets"], r["used"]) for r in there]
        return runs

    def said(self, arm: Arm, seed: int) -> dict[str, Any]:
        """What a kept run says of how it was made.

        The section of the method is no part of the recipe, so it is there in full.
        """
        recipe = digest(self.base, seed, self.settings)
        return {"recipe": recipe, "method": arm.section, "statistics": arm.statistics}


def run_name(arm: str, seed: int) -> str:
    """What the run of an arm is called."""
    return f"{arm}_seed{seed}"


def collect(study: Study, experiments: Path) -> None:
    """Run what is missing: first all candidates, then what was chosen of them."""
    everything = study.controls() | study.all_candidates()
    for seed in study.chosen_on:
        run_missing(study, everything, seed, experiments)
    for seed in study.seeds:
        run_missing(study, study.reported(), seed, experiments)


def run_missing(study: Study, arms: Mapping[str, Arm], seed: int, experiments: Path) -> None:
    """Run the arms of a seed that have no kept run, or one of another recipe, and keep each."""
    known = read(study.name)
    missing = {}
    for name, arm in arms.items():
        kept = known.get(run_name(name, seed), {})
        if kept != study.said(arm, seed) | {"results": kept.get("results")}:
            missing[name] = arm
    if not missing:
        return
    network = source_network(study, seed, experiments)
    for name, arm in missing.items():
        results = measure(study, arm, seed, network, experiments / "online" / study.name / name)
        known[run_name(name, seed)] = study.said(arm, seed) | {"results": results}
        write(study.name, known)
        means = ", ".join(f"{mean(scores.values()):.1f}" for scores in results["rounds"])
        print(f"{study.name}, seed {seed}, {name}: {means}; {results['resets']} resets", flush=True)


def source_network(study: Study, seed: int, experiments: Path) -> Path:
    """Directory of the run of a seed's source network, which is trained if it is not there."""
    recipe = study.recipe(seed)
    muhdi.train(recipe, experiments, resume=True, quiet=True)
    return experiments / "snapshots" / recipe.name


def measure(study: Study, arm: Arm, seed: int, network: Path, output: Path) -> dict[str, Any]:
    """Scores of one arm on the whole stream.

    Args:
        study: says the stream.
        arm: that adapts.
        seed: of the stream.
        network: directory of the source network's run.
        output: folder for what `muhdi adapt` writes.
    """
    recipe = study.recipe(seed, arm.section)
    found = adapt_in_rounds(
        network, recipe, output, device="cpu", overwrite=True, statistics=arm.statistics
    )
    (one,) = found.arms.values()
    rounds = []
    for scored in one["rounds"]:
        rounds.append({domain: entry["miou"] for domain, entry in scored["domains"].items()})
    return {"rounds": rounds, "resets": one["resets"], "used": one["statistics"]}


def _at_rates(section: Section, *rates: float) -> tuple[Section, ...]:
    """A method with each of these learning rates."""
    return tuple({**section, "learning_rate": rate} for rate in rates)


_ADAM = (7.5e-6, 1e-4, 3e-4, 1e-3)
TRIED: dict[str, tuple[Section, ...]] = {
    "bn": tuple({"method": "bn", "momentum": share} for share in (0.03, 0.1, 0.3)),
    "tent": _at_rates({"method": "tent"}, *_ADAM),
    "tent_hard": _at_rates({"method": "tent", "loss": "hard_label", "statistics": "given"}, *_ADAM),
    "cotta": _at_rates({"method": "cotta"}, 7.5e-6, 1e-4, 1e-3, 1e-2),
    "sar": _at_rates({"method": "sar"}, 2.5e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}
"""Of each method the learning rate or momentum that it has by default, and others.

`tent_hard` is `tent` as published baselines on ACDC ran it.
"""


def _extra(domains: Sequence[Mapping[str, Any]]) -> str:
    """The setting that lists the domains of a stream."""
    return f"extra_domains={json.dumps(list(domains))}"


def _targets(base: str) -> list[dict[str, Any]]:
    """The targets of a recipe."""
    recipe = muhdi.Recipe.load(base)
    said = [step.target for step in recipe.steps]
    return [one.model_dump(mode="json", exclude_defaults=True) for one in said if one is not None]


_SCENES = ("fog", "wet_night", "snow", "abroad")
SCENES = Study(
    "online_scenes2",
    "scenes2_source",
    (
        _extra([{"dataset": "scenes", "domain": domain} for domain in _SCENES]),
        "online={rounds: 4, images: 30}",
    ),
    _SCENES,
    "image",
    TRIED,
    chosen_on=(1, 2),
    seeds=(11, 12, 13),
    title="Drawn scenes, day -> fog, wet night, snow, abroad, small network",
)
CAMVID = Study(
    "online_camvid",
    "camvid_lite",
    (
        "steps=[]",
        _extra(_targets("camvid_lite")),
        "online={rounds: 4, images: 28, split: val}",
    ),
    ("bright", "dusk"),
    "blend",
    TRIED,
    chosen_on=(1, 2),
    seeds=(11, 12, 13),
    title="CamVid, day -> bright, dusk, pretrained EfficientNet-Lite0",
)
STUDIES = {"scenes2": SCENES, "camvid": CAMVID}
