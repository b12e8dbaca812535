"""Scores within a step: they change nothing of the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from muhdi.data.unlisted import UnlistedIds
from muhdi.evaluation.domains import Row, evaluate_domains
from muhdi.models.statistics import average_statistics
from muhdi.report.logged import logged_scores
from muhdi.training.stage import StageTrainer

if TYPE_CHECKING:
    from muhdi.workflows.session import Session


def evaluate_within(session: Session, stage: int, trainer: StageTrainer) -> None:
    """Score every domain between two iterations, into the curve of the stage.

    Statistics of domains are those that earlier stages have measured.

    Args:
        session: of the run.
        stage: a step, from 1.
        trainer: of the step.
    """
    with as_scored(trainer), _same_randomness(session.fabric.device):
        # Fresh counts: the evaluation after the step reports the same labels.
        row = evaluate_domains(session.scored, session.domains, session.recipe, UnlistedIds())
    done = trainer.iteration
    session.carried.curve.append({"iterations": done, "scores": _kept(row)})
    title = f"mIoU within {session.stage_name(stage)}, iteration {done}"
    tell_scores(session, title, row, session.recipe.iterations_before(stage) + done)


def tell_scores(session: Session, title: str, row: Row, iterations: int) -> None:
    """A line of scores for the user, and the numbers for the loggers.

    Args:
        session: of the run.
        title: what the line begins with.
        row: scores by statistics and domain.
        iterations: of the whole run so far.
    """
    main = session.carried.results.main_statistics
    shown = {name: entry["miou"] for name, entry in row[main].items()}
    cells = [f"{name} {miou:.1f}" for name, miou in shown.items() if miou is not None]
    if cells:
        session.log.print(f"{title}, {main}: {'  '.join(cells)}")
    session.log.scores(iterations, logged_scores(row))


@contextmanager
def as_scored(trainer: StageTrainer) -> Iterator[None]:
    """Inside, what is carried is as the network's file would hold it now; after it, as it was.

    Running statistics of several processes are averaged, adapters merged, and the mean teacher
    takes its place.
    """
    carried = trainer.carried
    network = carried.network
    teacher = carried.teacher
    modules = [network]
    if carried.average is not None:
        modules.append(carried.average.network)
    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        average_statistics(network)
        if carried.average is not None:
            carried.average.copy_buffers(network)
        if trainer.recipe.evaluation.weights == "teacher":
            trainer.keep_teacher()
        carried.network = trainer.plain_network()
        yield
    finally:
        carried.network = network
        carried.teacher = teacher
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


@contextmanager
def _same_randomness(device: torch.device) -> Iterator[None]:
    """Inside, random numbers may be drawn; those that follow are the same."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _kept(row: Row) -> Row:
    """What is kept of scores within a step: the mIoU, or what needs no labels where there is none.

    Those after the step have the rest.
    """
    kept: Row = {}
    for statistics, by_domain in row.items():
        kept[statistics] = {}
        for domain, entry in by_domain.items():
            names = ["miou"] if entry["miou"] is not None else ["miou", "reason", "label_free"]
            kept[statistics][domain] = {name: entry[name] for name in names if name in entry}
    return kept
