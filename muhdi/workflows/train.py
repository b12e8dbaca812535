"""Train on the source, then on every target in turn; evaluate all domains after each stage."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from muhdi import distributed
from muhdi.data.domains import Domains
from muhdi.data.rare_classes import RareClasses
from muhdi.errors import Interrupted, RecipeError
from muhdi.evaluation.domains import Scored, evaluate_domains, measure_domain
from muhdi.evaluation.results import Results, absent_classes, row_titles, untrained_row
from muhdi.evaluation.samples import network_after, save_samples
from muhdi.files import sha256, writing
from muhdi.models.checkpoint import save_checkpoint
from muhdi.models.tensor_files import save_tensors
from muhdi.preflight.count_classes import (
    count_classes,
    rare_classes,
    rare_stages,
)
from muhdi.recipe.schema import Recipe
from muhdi.report.label_free import stage_warnings
from muhdi.run.directory import open_run
from muhdi.run.environment import recorded
from muhdi.run.log import RunLog
from muhdi.run.loggers import check_loggers
from muhdi.run.progress import Screen, progress_bar
from muhdi.run.signals import noted_signals
from muhdi.training.fabric import (
    check_batches,
    launch,
    precision_notes,
    report_lost_processes,
    used_precision,
)
from muhdi.training.resume import (
    Position,
    restore,
    training_state,
)
from muhdi.training.stage import StageTrainer, first_signal
from muhdi.training.start import start
from muhdi.training.watcher import Event, Watcher
from muhdi.workflows.change import record_run_change, scored_file
from muhdi.workflows.report import report
from muhdi.workflows.select import check_selection, select_network, selection
from muhdi.workflows.session import Session
from muhdi.workflows.within import evaluate_within, tell_scores


def train(
    recipe: Recipe,
    experiments: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Results:
    """Train a whole recipe, and evaluate every domain after every stage.

    Everything is written to the run's directory, ``snapshots/NAME``: networks, training states,
    results, sample predictions, the versions that were used, and ``report.html``.

    Args:
        recipe: what to train.
        experiments: folder of ``snapshots`` and ``logs``; None: the recipe says where they are.
        resume: continue an interrupted run, or begin if there is none.
        overwrite: start again if the run exists already.
        quiet: print nothing.

    Returns:
        Scores of every domain after every stage.

    Raises:
        MuhdiError: something in the recipe or the data is wrong; nothing was written then.
        Interrupted: after a signal, with everything saved.
    """
    check_trainable(recipe)
    fabric = launch(recipe)
    # All files are found, and the network is made, before anything is written.
    with distributed.fail_together():
        domains = Domains(recipe)
        check_selection(recipe, domains)
        beginning = start(recipe, domains)
    rare = counted_rare_classes(recipe, domains, quiet=quiet)
    carried = beginning.carried
    with open_run(recipe, experiments, resume=resume, overwrite=overwrite) as run:
        position = restore(run, recipe, carried, resume=resume)
        where = {"length": position.metrics, "step": position.iterations}
        with RunLog.open(run, recipe, **where, quiet=quiet) as log:
            session = Session(fabric, recipe, domains, run, log, beginning, rare)
            precision = used_precision(recipe)
            with recorded(run.folder, precision), noted_signals() as session.signals:
                session.print_notes(position.notes + precision_notes(recipe, position.precision))
                run_stages(session, position)
                keep_samples(session)
                keep_change(session)
            # The report shows what was recorded.
            keep_report(session)
    return carried.results


def check_trainable(recipe: Recipe, function: str = "train") -> None:
    """Refuse what cannot be trained, before devices and files are looked for.

    Args:
        recipe: of the run.
        function: of muhdi that it was given to, for messages.

    Raises:
        MuhdiError: it is no recipe, has no source, names code that is not trusted or a logger that
            is not installed, or a batch cannot be computed in so many parts.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"recipe: must be a Recipe: muhdi.{function}(muhdi.Recipe.load({recipe!r}))"
        )
    if not (recipe.steps or recipe.source_training.iterations or recipe.source):
        raise RecipeError(f"{recipe.name}: trains nothing, it only tests; use muhdi evaluate")
    recipe.check_trusted()
    check_batches(recipe)
    check_loggers(recipe)


def counted_rare_classes(
    recipe: Recipe, domains: Domains, *, quiet: bool
) -> dict[int, RareClasses]:
    """What stages that sample rare classes draw source images from, by number.

    The source's labels are counted only if there is such a stage, in one process for all.

    Raises:
        MuhdiError: a label cannot be read, or nothing in them can be drawn for.
    """
    source = domains.source
    if source is None or not rare_stages(recipe):
        return {}
    classes = len(recipe.class_set())
    screen = Screen(quiet=quiet or not distributed.is_rank_zero())
    with progress_bar(screen, "counting classes") as on_progress:
        counts = distributed.on_rank_zero(
            lambda: count_classes(source, classes, on_progress=on_progress)
        )
    with distributed.fail_together():
        return rare_classes(recipe, source, counts)


def run_stages(session: Session, position: Position) -> None:
    """Train and evaluate every stage from ``position`` on."""
    with report_lost_processes(session.fabric):
        for stage in range(position.stage, len(session.recipe.steps) + 1):
            train_stage(session, stage, position)
            evaluate_stage(session, stage)
            stop_if_asked(session)


def train_stage(session: Session, stage: int, position: Position) -> None:
    """Train one stage (0: the source) to its end, measure statistics, and save everything.

    Args:
        session: of the run.
        stage: its number.
        position: where the run was interrupted; the trainer's state in it is used up.
    """
    name = session.stage_name(stage)
    trainer = StageTrainer(
        session.fabric,
        session.recipe,
        stage,
        session.carried,
        session.sets(stage),
        position.trainer,
    )
    position.trainer = None  # it holds every network a second time
    session.carried.remarks = trainer.remarks
    if not trainer.resumed:
        session.carried.curve = []
    if trainer.finished:
        return
    if trainer.iteration:
        session.log.print(f"{name}: continuing after iteration {trainer.iteration}")
    train_on(session, stage, trainer)
    if stage and session.recipe.evaluation.select != "last":
        select_network(session, stage, trainer, network_before(session, stage))
    trainer.finish()
    if session.has_learned(stage):
        measure_seen_domains(session, stage)
    if trainer.config.iterations or not session.recipe.steps:
        save_network(session, stage, trainer)
    # Before the evaluation: a crash there costs no training.
    save_state(session, stage, trainer)


def train_on(session: Session, stage: int, trainer: StageTrainer) -> None:
    """Do the iterations of a stage that are left, and what is due between them."""
    if trainer.iteration == trainer.config.iterations:
        return
    watcher = Watcher(session.log, session.count_unlisted, session.signals)
    for event in trainer.fit(trainer.name, watcher):
        if event is Event.EVALUATE:
            evaluate_within(session, stage, trainer)
            continue
        trainer.sync_statistics()
        if event is Event.SNAPSHOT:
            trainer.keep_teacher()
            save_network(session, stage, trainer)
        else:
            save_state(session, stage, trainer)


def measure_seen_domains(session: Session, stage: int) -> None:
    """Measure the source, where its images are there, and the stage's targets.

    The statistics of earlier targets stay as they were measured, since their images are gone.
    """
    sets = session.sets(stage)
    carried = session.carried
    found = [(carried.network, carried.statistics)]
    if carried.average is not None:
        found.append((carried.average.network, carried.average.statistics))
    if session.recipe.evaluation.weights == "teacher":
        # Before the first teacher follows, it is the network itself.
        teacher = carried.network if carried.teacher is None else carried.teacher.network
        found.append((teacher, carried.teacher_statistics))
    for samples in sets.seen:
        for network, statistics in found:
            measured = measure_domain(network, samples, session.recipe, session.fabric.device)
            statistics[samples.images.domain] = measured


def evaluate_stage(session: Session, stage: int) -> None:
    """Score every domain after a stage, write the results, and tell the user."""
    results = session.carried.results
    if len(results.steps) > stage:
        return  # evaluated before the run was interrupted
    name = session.stage_name(stage)
    if session.has_learned(stage):
        with session.log.bar(f"evaluating after {name}") as on_progress:
            row = evaluate_domains(
                session.scored,
                session.domains,
                session.recipe,
                session.unlisted,
                on_progress,
                previous=network_before(session, stage),
            )
    else:
        row = untrained_row(session.scored.rows, list(session.domains.validation))
    results.add(name, row, distributed.on_rank_zero(partial(weights_after, session, stage)))
    results.steps[-1] |= beside_scores(session, stage)
    distributed.on_rank_zero(lambda: session.run.save_results(results.to_json()))
    session.report_unlisted()
    if not session.told_absent:
        # Once: the labels of the evaluation stay the same.
        for line in absent_classes(row):
            session.told_absent = True
            session.log.print(line)
    announce(session, stage)


def network_before(session: Session, stage: int) -> Scored | None:
    """What the stage before has left, if predictions are compared with its; read from its file."""
    labelled = [samples.with_labels for samples in session.domains.validation.values()]
    compares = session.recipe.evaluation.compares
    if not stage or not session.has_learned(stage - 1):
        return None
    if not any(compares(labelled=one) for one in labelled):
        return None
    path = network_after(session.run, session.recipe, stage - 1)
    return None if path is None else scored_file(path, session.recipe, session.fabric.device)


def weights_after(session: Session, stage: int) -> list[str]:
    """The digest of the network's file after a stage; none where there is no file."""
    path = network_after(session.run, session.recipe, stage)
    return [] if path is None else [sha256(path)]


def beside_scores(session: Session, stage: int) -> dict[str, Any]:
    """What the results hold of a stage besides its scores, see `Results`."""
    carried = session.carried
    sets = session.sets(stage)
    targets = [samples.images.domain for samples in sets.targets]
    found: dict[str, Any] = {
        "targets": targets if len(targets) > 1 else None,
        "labelled": None if sets.labelled is None else len(sets.labelled),
        "without_source": True if stage and sets.source is None else None,
        "remarks": carried.remarks or None,
        "selected": selection(session, stage),
        "kept": carried.kept,
    }
    if stage and session.recipe.evaluation.every is not None:
        found["iterations"] = session.recipe.stages()[stage].config.iterations
        found["curve"] = carried.curve
    return {name: value for name, value in found.items() if value is not None}


def announce(session: Session, stage: int) -> None:
    """A line of scores for the user, and warnings."""
    results = session.carried.results
    title = f"mIoU after {row_titles(results.steps)[stage]}"
    done = session.recipe.iterations_before(stage + 1)
    tell_scores(session, title, results.steps[stage]["scores"], done)
    for line in stage_warnings(results, results.main_statistics):
        session.log.print(line)


def save_network(session: Session, stage: int, trainer: StageTrainer) -> None:
    """Write the network of a stage as it is now; at the stage's end also methods' own ones."""
    directory = session.run
    name = session.stage_name(stage)
    iterations = trainer.iteration

    def write() -> None:
        path = directory.model(stage, name, iterations)
        save_checkpoint(path, session.checkpoint(trainer.plain_network()))
        own_networks = trainer.own_networks if trainer.finished else {}
        for key, own in own_networks.items():
            network = key.rpartition("/")[2]
            path = directory.network(stage, name, network, iterations)
            save_tensors(path, own.module.state_dict())

    distributed.on_rank_zero(write)


def save_state(session: Session, stage: int, trainer: StageTrainer) -> None:
    """Write a training state from which the run can continue."""
    state = training_state(stage, trainer.state(), session.log.length(), session.carried)
    done = session.recipe.iterations_before(stage) + trainer.iteration
    keep = session.recipe.runtime.keep
    distributed.on_rank_zero(lambda: session.run.states.save(state, done, keep))


def stop_if_asked(session: Session) -> None:
    """Leave between two stages after a signal; everything is saved."""
    signal = first_signal(session.signals)
    if signal is not None:
        raise Interrupted(signal)


def keep_samples(session: Session) -> None:
    """Sample images after the last step; with them the run is complete."""

    def write() -> None:
        save_samples(session.run, session.scored, session.domains, session.recipe)
        step = session.recipe.iterations_before(len(session.recipe.steps) + 1)
        session.log.images(step, sorted(session.run.samples.glob("*.png")))

    with writing(session.run.samples):
        distributed.on_rank_zero(write)


def keep_change(session: Session) -> None:
    """What the steps changed, which the page shows above all where there are no labels."""

    def write() -> None:
        with distributed.without_peers():
            record_run_change(session.run, session.recipe)

    distributed.on_rank_zero(write)


def keep_report(session: Session) -> None:
    """The page that a run ends with."""

    def write() -> None:
        session.log.artefact(report(session.run.folder, trust_code=True))

    distributed.on_rank_zero(write)
