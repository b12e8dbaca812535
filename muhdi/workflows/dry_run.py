"""Trying a recipe out: everything is built, every stage does two iterations, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from muhdi.data.domains import Domains
from muhdi.evaluation.domains import OnProgress, Row, evaluate_domains, shown_images
from muhdi.preflight.count_classes import sampling_notes
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StageConfig
from muhdi.run.costs import DryRun, StageCost
from muhdi.run.directory import RunDirectory
from muhdi.run.log import RunLog
from muhdi.run.progress import Screen
from muhdi.training.fabric import launch_alone, precision_notes, report_lost_processes
from muhdi.training.measured import MeasuredTrainer, forget_peak, peak_mb, second_time
from muhdi.training.start import start
from muhdi.training.watcher import Event, Watcher, due
from muhdi.workflows.select import check_selection
from muhdi.workflows.session import Session
from muhdi.workflows.train import (
    check_trainable,
    counted_rare_classes,
    measure_seen_domains,
)

TRIED = 2
"""Iterations of a stage, and images of a domain: the first warms up, the second is timed."""


def dry_run(recipe: Recipe, *, on_progress: OnProgress = lambda done, total: None) -> DryRun:
    """Try a recipe out, and estimate what training it costs.

    Everything is built as `train` builds it, and data are found and opened. Every stage does two
    iterations, of which the second is timed, and then scores two images of every domain. Nothing is
    written, and a run of the recipe that exists is not looked at.

    It is an estimate: iterations times the seconds of one, and images times the seconds of one.
    Samples and report are not counted, nor what methods do at the start and end of a step, nor the
    passes of an earlier network (`evaluation.agreement`). It runs
    in this process and on one device, whatever number the recipe asks for.

    Args:
        recipe: what would be trained.
        on_progress: called with the number of stages that are done, and of all.

    Returns:
        Seconds and memory of every stage.

    Raises:
        MuhdiError: something in the recipe or the data is wrong, as in `train`.
    """
    check_trainable(recipe, "dry_run")
    fabric = launch_alone(recipe)
    domains = Domains(recipe)
    check_selection(recipe, domains)
    if domains.cache is not None:
        domains.cache.read_only = True
    beginning = start(recipe, domains)
    images = {name: shown_images(samples, recipe) for name, samples in domains.validation.items()}
    domains.validation = {
        name: samples.first(TRIED) for name, samples in domains.validation.items()
    }
    directory = RunDirectory.of(recipe)
    log = RunLog(directory, Screen(quiet=True), None, [], 0)
    rare = counted_rare_classes(recipe, domains, quiet=True)
    session = Session(fabric, _shortened(recipe), domains, directory, log, beginning, rare)
    stages: list[StageCost] = []
    total = len(recipe.stages())
    with report_lost_processes(fabric):
        for stage in range(total):
            on_progress(stage, total)
            stages.append(_try_stage(session, recipe, stage, images))
    on_progress(total, total)
    notes = [*recipe.notes, *domains.notes, *beginning.notes, *session.unlisted.report()]
    notes += sampling_notes(recipe, rare) + precision_notes(recipe) + _notes(recipe)
    threads = torch.get_num_threads()
    return DryRun(recipe.name, str(fabric.device), threads, tuple(stages), tuple(notes))


def _shortened(recipe: Recipe) -> Recipe:
    """The recipe with a few iterations of every stage that has any, and few images to measure."""
    evaluation = recipe.evaluation.model_copy(update={"domain_images": TRIED})
    changes = {
        "source_training": _shortened_stage(recipe.source_training),
        "steps": [_shortened_stage(step) for step in recipe.steps],
        "evaluation": evaluation,
    }
    return recipe.model_copy(update=changes)


def _shortened_stage(config: StageConfig) -> StageConfig:
    if not config.iterations:
        return config
    # At the learning rate with which the whole stage begins.
    schedule = config.schedule or config.iterations
    return config.model_copy(update={"iterations": TRIED, "schedule": schedule})


def _try_stage(
    session: Session, recipe: Recipe, stage: int, images: Mapping[str, int]
) -> StageCost:
    """Begin, train, end and score one stage.

    Args:
        session: with the shortened recipe.
        recipe: the whole one.
        stage: its number.
        images: how many a run scores, by domain.
    """
    device = session.fabric.device
    forget_peak(device)
    name = session.stage_name(stage)
    sets = session.sets(stage)
    trainer = MeasuredTrainer(session.fabric, session.recipe, stage, session.carried, sets)
    if trainer.config.iterations:
        watcher = Watcher(session.log, session.count_unlisted, session.signals)
        for _ in trainer.fit(name, watcher):
            pass  # nothing is saved
    memory = peak_mb(device)
    trainer.finish()
    return StageCost(
        name,
        recipe.stages()[stage].config.iterations,
        trainer.seconds,
        trainer.images,
        memory,
        _try_scoring(session, recipe, stage, images) if session.has_learned(stage) else 0.0,
    )


def _try_scoring(session: Session, recipe: Recipe, stage: int, images: Mapping[str, int]) -> float:
    """Seconds that the statistics and all evaluations of a stage take in a whole run."""
    device = session.fabric.device
    measuring = second_time(lambda: measure_seen_domains(session, stage), device)
    sets = session.sets(stage)
    seen = [len(samples) for samples in sets.seen]
    measured = sum(min(length, TRIED) for length in seen)
    wanted = sum(min(length, recipe.evaluation.domain_images) for length in seen)
    rows: list[Row] = []

    def evaluate() -> None:
        rows.append(
            evaluate_domains(session.scored, session.domains, session.recipe, session.unlisted)
        )

    evaluating = second_time(evaluate, device)
    one = evaluating * _times_as_many(rows[-1], images)
    # Before a step without the source there may be nothing to measure.
    whole = measuring * wanted / max(measured, 1)
    return whole + one * (1 + _evaluations_within(recipe, stage))


def _evaluations_within(recipe: Recipe, stage: int) -> int:
    """How often a run scores all domains between the iterations of a stage."""
    last = recipe.stages()[stage].config.iterations
    found = [event for done in range(1, last) for event in due(recipe, stage, done)]
    return found.count(Event.EVALUATE)


def _times_as_many(row: Row, images: Mapping[str, int]) -> float:
    """How many times as many images a whole run scores.

    Args:
        row: what was scored here.
        images: how many a run scores, by domain.
    """
    tried = 0
    wanted = 0
    for by_domain in row.values():
        for domain, entry in by_domain.items():
            if "label_free" in entry:
                tried += entry["label_free"]["images"]
                wanted += images[domain]
    return wanted / tried if tried else 0.0


def _notes(recipe: Recipe) -> list[str]:
    """What is unlike a run of the recipe."""
    runtime = recipe.runtime
    if runtime.devices == 1 and runtime.nodes == 1:
        return []
    machines = "" if runtime.nodes == 1 else f" on each of {runtime.nodes} machines"
    return [
        f"runtime.devices is {runtime.devices}{machines}, but this was measured in one process on"
        " one device, with whole batches"
    ]
