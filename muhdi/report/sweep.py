"""What the arms of a sweep have reached, and which differences are left after a correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import mean

from muhdi.errors import MuhdiError, nearest
from muhdi.recipe.methods import NO_ADAPTATION
from muhdi.recipe.orders import base_arm, order_name, own_order, split_seed
from muhdi.recipe.retentions import NO_RETENTION
from muhdi.recipe.schema import Recipe
from muhdi.report.compare import (
    PAIRED,
    Findings,
    each_alone,
    group,
    readings,
    results_by_arm,
    write_comparison,
)
from muhdi.report.result_table import Cell, ResultTable, spread, statistics_title, with_statistics
from muhdi.report.run_files import RunData, shared_statistics
from muhdi.report.significance import LEVEL, Compared, Difference, corrected, difference
from muhdi.report.tables import MEASURES, arms_table
from muhdi.report.tidy import write_scores

PAGE = "comparison.html"
SCORES = "scores.csv"

ByOrder = Mapping[str, Sequence[RunData]]
"""Runs of one arm by the order of their targets, in the order of the seeds."""


class SweepReport:
    """The runs of a sweep, as tables, a sentence and files.

    Orders of the targets are averaged for each seed before arms are compared: runs that share a
    source are no further evidence. With a single recipe, its orders are the arms.

    Args:
        runs: finished, in the order of the arms.
        control: the arm that the others are compared with; None: the first without adaptation and
            retention, or else the first.

    Attributes:
        statistics: those of all runs, the main one of the first run first.

    Raises:
        MuhdiError: there is no such arm, or the runs cannot be compared.
    """

    def __init__(self, runs: Sequence[RunData], control: str | None = None) -> None:
        self.runs = list(runs)
        self._single = group(runs, "arm")
        self.statistics = shared_statistics(runs)
        self.main = self.statistics[0]
        recipes = [alike[0].recipe for alike in self._single.values()]
        self.control = control_arm(recipes, control)
        self.arms: dict[str, dict[str, list[RunData]]] = {}
        for arm, (name, alike) in zip(_arm_names(recipes), self._single.items(), strict=True):
            # An arm that is called by its order has no other.
            order = "" if arm == name else order_name(own_order(alike[0].recipe))
            self.arms.setdefault(arm, {})[order] = alike

    @cached_property
    def has_orders(self) -> bool:
        """Whether an arm has runs whose targets come in different orders."""
        return any(len(by_order) > 1 for by_order in self.arms.values())

    @property
    def has_one_comparison(self) -> bool:
        """Whether there is a single difference at most, which needs no correction."""
        return len(self.arms) < 3 and not self.has_orders

    @cached_property
    def controls(self) -> dict[str, str]:
        """The control of each recipe and order, which has the same order where there is one."""
        by_order = {order: runs[0].recipe for order, runs in self.arms[self.control].items()}
        names = {run.recipe.name: name for name, runs in self._single.items() for run in runs}
        found = {}
        for by in self.arms.values():
            for order, runs in by.items():
                name = names[runs[0].recipe.name]
                found[name] = names[by_order[order].name] if order in by_order else name
        return found

    # --- comparisons ------------------------------------------------------------------------------

    def compared(self, statistics: str, measure: str = "average") -> dict[str, Compared]:
        """Every arm but the control, as far as both have scored targets and a seed in common.

        Args:
            statistics: the normalisation statistics.
            measure: one of `muhdi.evaluation.metrics.Summary`.
        """
        differences = {}
        for arm in self.arms:
            found = self._difference(arm, statistics, measure) if arm != self.control else None
            if found is not None:
                differences[arm] = found
        return corrected(differences)

    def _difference(self, arm: str, statistics: str, measure: str) -> Difference | None:
        """A measure of an arm minus that of the control: for each seed, over shared orders."""
        by_seed: dict[int, list[float]] = {}
        for order, runs in self.arms[arm].items():
            others = {run.recipe.seed: run for run in self.arms[self.control].get(order, [])}
            for run in runs:
                other = others.get(run.recipe.seed)
                if other is None:
                    continue
                found = difference([run.results], [other.results], statistics, measure)
                if found is None:
                    return None
                by_seed.setdefault(run.recipe.seed, []).append(found.mean)
        return Difference(tuple(mean(values) for values in by_seed.values())) if by_seed else None

    def corrected_table(self, statistics: str, measure: str = "average") -> ResultTable:
        """Differences from the control, with p values before and after Holm's correction.

        Args:
            statistics: the normalisation statistics.
            measure: as of `compared`.
        """
        rows: list[list[Cell]] = []
        compared = self.compared(statistics, measure)
        for arm, found in compared.items():
            values = found.difference
            error = "" if values.error is None else f" ± {values.error:.1f}"
            rows.append(
                [
                    arm,
                    str(len(values.values)),
                    f"{values.mean:+.1f}{error}",
                    _p_text(values.p),
                    _p_text(found.corrected),
                    found.verdict,
                ]
            )
        header = ["arm", "seeds", MEASURES[measure], "p", "p corrected", "reading"]
        title = (
            f"Differences from {self.control} in points of mIoU, paired t test with Holm's"
            f" correction for {_arms(len(compared))}, {statistics_title(statistics)}"
        )
        return ResultTable(title, header, rows)

    def sentence(self, statistics: str) -> str:
        """Which differences hold after the correction."""
        compared = self.compared(statistics)
        words = with_statistics(statistics).capitalize()
        if not compared:
            return f"{words} no arm can be compared with {self.control}."
        if all(found.corrected is None for found in compared.values()):
            return f"{words} one seed is no test: repeat --seed to tell differences from noise."
        held = [f"{arm} is {found.verdict}" for arm, found in compared.items() if found.holds]
        what = "; ".join(held) or "none differs by more than the noise"
        return (
            f"{words}, against {self.control}, corrected for {_arms(len(compared))} (Holm): {what}."
        )

    # --- tables and files -------------------------------------------------------------------------

    def tables(self, statistics: str) -> list[ResultTable]:
        """Mean and spread of every arm and order, the orders together, and what differs."""
        single = results_by_arm(self._single)
        found = [arms_table(single, statistics)]
        if self.has_orders:
            found.append(self.orders_table(statistics))
        if len(self.arms) > 1:
            found.append(self.corrected_table(statistics))
        return found

    def orders_table(self, statistics: str) -> ResultTable:
        """The target average of each arm over all orders, and of its lowest and highest one."""
        rows: list[list[Cell]] = []
        for arm, by_order in self.arms.items():
            of_orders = []
            by_seed: dict[int, list[float | None]] = {}
            for runs in by_order.values():
                averages = [run.results.summary(statistics).average for run in runs]
                of_orders.append(spread(averages))
                for run, average in zip(runs, averages, strict=True):
                    by_seed.setdefault(run.recipe.seed, []).append(average)
            seeds = [spread(values) for values in by_seed.values()]
            known = [found.mean for found in of_orders if found is not None]
            rows.append(
                [
                    arm,
                    str(len(by_order)),
                    spread([None if found is None else found.mean for found in seeds]),
                    min(known, default=None),
                    max(known, default=None),
                ]
            )
        header = ["arm", "orders", "target average", "lowest order", "highest order"]
        title = f"Over all orders, {statistics_title(statistics)} (mIoU in percent)"
        return ResultTable(title, header, rows)

    def readings(self, statistics: str | None = None) -> list[str]:
        """What is said beside the tables; None: with the main statistics."""
        chosen = statistics or self.main
        if self.has_one_comparison:
            # Then there is more to say.
            return readings(self._single, self.controls, chosen)
        return [self.sentence(chosen)]

    def findings(self, statistics: str) -> Findings:
        """What the page says: nothing that the terminal's correction does not confirm."""
        if self.has_one_comparison:
            return each_alone(self._single, self.controls, statistics)
        *means, average = self.tables(statistics)
        forgetting = self.corrected_table(statistics, "forgetting")
        differences = [table for table in (average, forgetting) if table.rows]
        orders = " The orders of a seed are averaged first." if self.has_orders else ""
        hint = (
            f"{PAIRED} and its p value is below {LEVEL} once it is corrected for the number of"
            f" arms.{orders}"
        )
        return Findings(self.readings(statistics), means, differences, hint)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the page that compares all runs, and all scores as CSV.

        Returns:
            The page, and the table.
        """
        page = write_comparison(folder / PAGE, self._single, self.findings)
        scores = folder / SCORES
        write_scores(scores, [run.results for run in self.runs])
        return page, scores


def _arm_names(recipes: Sequence[Recipe]) -> list[str]:
    """What arms are called: by their recipes, or the orders of a single recipe by these, too."""
    if len({base_arm(recipe) for recipe in recipes}) > 1:
        return [base_arm(recipe) for recipe in recipes]
    return [split_seed(recipe)[0] for recipe in recipes]


def control_arm(recipes: Sequence[Recipe], control: str | None) -> str:
    """The name of the arm that the others are compared with.

    Args:
        recipes: one or more of every arm.
        control: the arm that was asked for; None: the first without adaptation and retention, or
            else the first.

    Raises:
        MuhdiError: there is no such arm.
    """
    names = _arm_names(recipes)
    if control is None:
        for name, recipe in zip(names, recipes, strict=True):
            if _is_control(recipe):
                return name
        return names[0]
    if control not in names:
        arms = list(dict.fromkeys(names))
        raise MuhdiError(
            f"--control {control}: no such arm{nearest(control, arms)} (arms: {', '.join(arms)})"
        )
    return control


def check_comparable(recipes: Sequence[Recipe]) -> None:
    """Refuse arms whose runs no table could compare, before any of them is trained.

    Raises:
        MuhdiError: a recipe has other domains or targets than the first, or is scored with other
            statistics alone.
    """
    first = recipes[0]
    shared = set(first.evaluation.statistics)
    for recipe in recipes:
        if _domains(recipe) != _domains(first) or _targets(recipe) != _targets(first):
            raise MuhdiError(
                f"{split_seed(recipe)[0]}: its domains ({', '.join(_domains(recipe))}; targets:"
                f" {', '.join(_targets(recipe))}) are not those of {split_seed(first)[0]}"
                f" ({', '.join(_domains(first))}; targets: {', '.join(_targets(first))}), so their"
                " runs could not be compared; sweep recipes of one benchmark"
            )
        shared &= set(recipe.evaluation.statistics)
        if not shared:
            raise MuhdiError(
                f"{split_seed(recipe)[0]}: evaluation.statistics"
                f" ({', '.join(recipe.evaluation.statistics)}) must have one in common with those"
                f" before it ({split_seed(first)[0]}: {', '.join(first.evaluation.statistics)}), so"
                " that the runs can be compared"
            )


def _domains(recipe: Recipe) -> list[str]:
    return sorted({domain.domain_name for _, domain in recipe.domains()})


def _targets(recipe: Recipe) -> list[str]:
    # Without steps, the extra domains are what a source is judged by.
    steps = {name for step in recipe.steps for name in step.domain_names}
    return sorted(steps or {domain.domain_name for domain in recipe.extra_domains})


def _is_control(recipe: Recipe) -> bool:
    """Whether targets only pass through the network: no adaptation, no retention, no label."""
    for step in recipe.steps:
        keeps_nothing = all(part == NO_RETENTION for part in step.retention.parts)
        is_plain = step.adaptation == NO_ADAPTATION and keeps_nothing
        if step.labelled is not None or not is_plain:
            return False
    return bool(recipe.steps)


def _arms(count: int) -> str:
    return "1 arm" if count == 1 else f"{count} arms"


def _p_text(p: float | None) -> str:
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
