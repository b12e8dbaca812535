"""Studies: one recipe, several arms that each change a little of it, and a control.

What they share: training what is missing, keeping the scores in ``benchmarks/runs/`` with a digest
of each recipe, and tables of them. `benchmarks.parts` and `benchmarks.retentions` say what is
tried.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import muhdi
from benchmarks.keeping import digest, finished_run, read, write
from muhdi.report.result_table import Cell, markdown, spread
from muhdi.report.significance import Compared, Difference, corrected, difference

SOURCE = "source alone"
"""The row of the network before any step, which all arms of a seed share."""
Runs = dict[str, list[muhdi.Results]]
Column = tuple[str, Callable[[muhdi.Results, str], float | None]]
"""Title, and what it shows of a run's results for a choice of statistics."""


@dataclass(frozen=True)
class Study:
    """A recipe and its arms.

    Attributes:
        name: of the kept runs, and what the arms' names start with.
        base: recipe that every arm changes.
        common: settings of every arm.
        statistics: with which the arms are scored, a table each.
        title: of the tables, with what ran them.
        arms: what each of them changes.
        seeds: of the runs; none of them was used to choose anything.
        control: the arm that the others are compared with.
        short: its name in a table of several studies.
    """

    name: str
    base: str
    common: tuple[str, ...]
    statistics: tuple[str, ...]
    title: str
    arms: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    control: str
    short: str = ""

    def recipe(self, arm: str) -> muhdi.Recipe:
        """The recipe of an arm, without its seed."""
        name = f"{self.name}_{arm}"
        return muhdi.Recipe.load(self.base, self.settings(arm), name=name)

    def settings(self, arm: str) -> list[str]:
        """What an arm changes of the recipe."""
        return [*self.common, *self.arms[arm]]

    def run_name(self, arm: str, seed: int) -> str:
        """What the run of an arm is called."""
        return f"{self.name}_{arm}_seed{seed}"

    def finished(self) -> Runs:
        """Results of the arms of which every seed is finished; empty without the control's."""
        known = read(self.name)
        runs: Runs = {}
        for arm in self.arms:
            names = [self.run_name(arm, seed) for seed in self.seeds]
            if all(name in known for name in names):
                runs[arm] = [muhdi.Results.from_json(known[name]["results"]) for name in names]
        return runs if self.control in runs else {}


def collect(
    study: Study, arms: Sequence[str], experiments: Path, jobs: int | None, *, train: bool
) -> None:
    """Train what is missing, and bring the kept runs up to date."""
    for seed in study.seeds:
        known = read(study.name)
        digests = {arm: digest(study.base, seed, study.settings(arm)) for arm in arms}
        missing = []
        for arm in arms:
            kept = known.get(study.run_name(arm, seed), {})
            if kept.get("recipe") != digests[arm]:
                missing.append(arm)
        if train and missing:
            # All arms of a seed share the training on the source.
            recipes = [study.recipe(arm) for arm in missing]
            muhdi.sweep(recipes, [seed], [], experiments, jobs)
        for arm in missing:
            name = study.run_name(arm, seed)
            found = finished_run(experiments, name)
            if found is not None:
                known[name] = {"recipe": digests[arm], "results": found}
        write(study.name, known)


def titled(heading: str, seeds: Sequence[int], command: str) -> str:
    """What stands above the tables of a study.

    Args:
        heading: in Markdown, without its marks.
        seeds: of the runs.
        command: that makes them.
    """
    return f"""### {heading}

Mean ± standard deviation of seeds {", ".join(map(str, seeds))}.

```sh
{command}
```
"""


def section(study: Study, runs: Runs, columns: Sequence[Column]) -> str:
    """The table of all arms that are finished, for each choice of statistics.

    Args:
        study: says the title and the statistics.
        runs: its finished ones, the control's among them.
        columns: the scores that are shown, besides the difference to the control.
    """
    parts = [study.title]
    for kind in study.statistics:
        differences = differences_to_control(study, runs, kind)
        rows = [_row(SOURCE, before_any_step(runs[study.control]), kind, columns, None)]
        rows += [_row(arm, runs[arm], kind, columns, differences.get(arm)) for arm in runs]
        head = ["arm", *(name for name, _ in columns), f"more than {study.control}", "by seed"]
        parts.append(f"With `{kind}` statistics, after the last step:\n")
        parts.append(markdown(head, rows))
    return "\n".join(parts)


def before_any_step(runs: Sequence[muhdi.Results]) -> list[muhdi.Results]:
    """The same runs when nothing but the source was trained."""
    return [replace(run, steps=run.steps[:1]) for run in runs]


def differences_to_control(study: Study, runs: Runs, kind: str) -> dict[str, Compared]:
    """What every other arm averages more than the control, corrected for their number."""
    found: dict[str, Difference] = {}
    for arm, own in runs.items():
        more = difference(own, runs[study.control], kind, "average")
        if arm != study.control and more is not None:
            found[arm] = more
    return corrected(found)


def _row(
    arm: str,
    runs: Sequence[muhdi.Results],
    kind: str,
    columns: Sequence[Column],
    compared: Compared | None,
) -> list[Cell]:
    row: list[Cell] = [arm]
    row += [spread([value(run, kind) for run in runs]) for _, value in columns]
    return row + difference_cells(compared)


def difference_cells(compared: Compared | None) -> list[Cell]:
    """What an arm has more than the control, in the mean and by seed; empty for the control."""
    if compared is None:
        return ["", ""]
    more = compared.difference
    by_seed = ", ".join(f"{value:+.1f}" for value in more.values)
    doubt = "" if compared.holds else " (within the noise)"
    return [f"{more.mean:+.1f}{doubt}", by_seed]


def after_the_last_step(domain: str) -> Column:
    """The mIoU on a domain."""

    def value(run: muhdi.Results, kind: str) -> float | None:
        return run.matrix(kind)[-1][run.domains.index(domain)]

    return domain, value


def average(title: str) -> Column:
    """The mean over the targets."""
    return title, lambda run, kind: run.summary(kind).average


def forgotten(run: muhdi.Results, kind: str) -> float | None:
    """What the targets have lost of their best by the end, on average."""
    return run.summary(kind).forgetting


def lost_before_return(run: muhdi.Results, kind: str) -> float | None:
    """What a target had lost of its best just before it came back."""
    return run.summary(kind).before_return


def main(description: str | None, studies: Mapping[str, Study], page: Callable[[], str]) -> None:
    """The command line of a module of studies."""
    arms = list(dict.fromkeys(arm for study in studies.values() for arm in study.arms))
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(studies), help="this study alone")
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms)
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    train = not options.collect
    for name, study in studies.items():
        if options.only in (None, name):
            wanted = [arm for arm in options.arms if arm in study.arms]
            collect(study, wanted, options.experiments, options.jobs, train=train)
    print(page())
