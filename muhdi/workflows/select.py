"""Which network of a step goes on: the last one, or the best of those that were kept within it.

The choice depends on files and weights alone, so that a resumed run makes the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muhdi import distributed
from muhdi.data.domains import Domains
from muhdi.errors import DataError, RecipeError, RunError
from muhdi.evaluation.domains import Scored, score_domain
from muhdi.evaluation.results import Entry, merit
from muhdi.files import read_json, write_json
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.tensor_files import load_exactly
from muhdi.recipe.evaluation import AGREEMENTS
from muhdi.recipe.schema import Recipe
from muhdi.report.selected import selected_line
from muhdi.training.stage import StageTrainer
from muhdi.workflows.change import scored_file

if TYPE_CHECKING:
    from muhdi.workflows.session import Session

FILE = "selection.json"
"""In a step's folder: what was chosen, and the scores of all candidates."""


def check_selection(recipe: Recipe, domains: Domains) -> None:
    """Refuse a score that a target will not have, before anything is trained.

    Raises:
        DataError: a target has no labels to choose by.
        RecipeError: a target's agreement is not measured.
    """
    by = recipe.evaluation.select
    for step in recipe.steps:
        if by == "last":
            continue
        target = step.name  # of several targets nothing can be chosen
        labelled = domains.validation[target].with_labels
        if by == "best" and not labelled:
            raise DataError(
                f"evaluation.select: best chooses by labels, but {target} has none; choose by"
                " entropy, for example"
            )
        if by in AGREEMENTS and not recipe.evaluation.compares(labelled=labelled):
            raise RecipeError(
                f"evaluation.select: {by} is not measured on {target}; set evaluation.agreement:"
                " all"
            )


@dataclass(frozen=True)
class _Candidate:
    """A network of a step.

    Attributes:
        iterations: of the step when it was kept.
        file: that holds it; None: the trainer does.
        entry: its scores on the step's target.
    """

    iterations: int
    file: Path | None
    entry: Entry


def select_network(
    session: Session, stage: int, trainer: StageTrainer, previous: Scored | None
) -> None:
    """Let a step end with the network that its recipe chooses; the choice is written down.

    Args:
        session: of the run.
        stage: a step, from 1.
        trainer: after its last iteration and before its end; its network becomes the chosen one.
        previous: what the stage before has left.

    Raises:
        RunError: a network that was kept is gone.
    """
    trainer.sync_statistics()
    if trainer.adapters is not None:
        # Files hold merged networks.
        trainer.adapters.merge()
        trainer.adapters = None
    by = session.recipe.evaluation.select
    candidates = list(_candidates(session, stage, trainer, previous))
    # Of equal ones the latest, which has learned most.
    chosen = max(candidates, key=lambda one: (_merit(one.entry, by), one.iterations))
    if chosen.file is not None:
        _take(trainer, chosen.file)
    rows = [{"iterations": one.iterations, **_kept(one.entry)} for one in candidates]
    selected = {
        "by": by,
        "domain": session.stage_name(stage),
        "statistics": _statistics(session),
        "iterations": chosen.iterations,
        "of": trainer.iteration,
        "candidates": rows,
    }
    distributed.on_rank_zero(lambda: write_json(_file(session, stage), selected))
    session.log.print(selected_line(selected))


def selection(session: Session, stage: int) -> dict[str, Any] | None:
    """What `select_network` wrote, in every process; None where nothing was chosen."""
    if not stage or session.recipe.evaluation.select == "last":
        return None
    return distributed.on_rank_zero(lambda: _read(_file(session, stage)))


def _read(path: Path) -> dict[str, Any]:
    selected: dict[str, Any] = read_json(path)
    return selected


def _file(session: Session, stage: int) -> Path:
    return session.run.model(stage, session.stage_name(stage), 0).with_name(FILE)


def _statistics(session: Session) -> str:
    """The choice that is shown first."""
    rows = session.scored.rows
    main = session.recipe.evaluation.default_statistics
    return main if main in rows else rows[0]


def _candidates(
    session: Session, stage: int, trainer: StageTrainer, previous: Scored | None
) -> Iterator[_Candidate]:
    """The networks that were kept within the step, and the last one, with their scores."""
    recipe = session.recipe
    name = session.stage_name(stage)
    samples = session.domains.validation[name]
    statistics = _statistics(session)
    assert recipe.snapshot_every is not None
    for iterations in range(recipe.snapshot_every, trainer.iteration, recipe.snapshot_every):
        file = session.run.model(stage, name, iterations)
        if not file.is_file():
            raise RunError(
                f"{file}: is gone, but evaluation.select chooses between it and others; start"
                " again with --overwrite"
            )
        scored = scored_file(file, recipe, session.fabric.device)
        entry = score_domain(scored, statistics, samples, recipe, previous)
        yield _Candidate(iterations, file, entry)
    entry = score_domain(session.scored, statistics, samples, recipe, previous)
    yield _Candidate(trainer.iteration, None, entry)


def _merit(entry: Entry, by: str) -> float:
    value = entry["miou"] if by == "best" else merit(entry["label_free"], by)
    return float("-inf") if value is None else float(value)


def _kept(entry: Entry) -> Entry:
    """What is written down of a candidate's scores."""
    return {key: entry[key] for key in ("miou", "label_free")}


def _take(trainer: StageTrainer, file: Path) -> None:
    """Continue with the network of a file, and with its average; the teacher is a later one's."""
    trainer.keeps_teacher = False
    found = load_checkpoint(file, trust_code=True)
    load_exactly(trainer.network, found.network.state_dict(), file)
    if trainer.average is not None and found.average is not None:
        load_exactly(trainer.average.network, found.average.network.state_dict(), file)
