"""Continuing an interrupted run: its state, results and files, brought to one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from muhdi import distributed
from muhdi.errors import RunError
from muhdi.evaluation.results import Results
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.carried import Carried

State = dict[str, Any]


@dataclass
class Position:
    """Where a run is.

    Attributes:
        stage: the one to train next, or in the middle of.
        trainer: the state of that stage; None at its start.
        iterations: of the whole run so far.
        metrics: bytes of ``metrics.jsonl`` that belong to them.
        precision: in which they were computed; None at the start.
        notes: what the user should know, such as damaged states.
    """

    stage: int = 0
    trainer: State | None = None
    iterations: int = 0
    metrics: int = 0
    precision: str | None = None
    notes: list[str] = field(default_factory=list)


def restore(directory: RunDirectory, recipe: Recipe, carried: Carried, *, resume: bool) -> Position:
    """Bring what a run carries to where its newest whole state was saved.

    Args:
        directory: of the run.
        recipe: of the run.
        carried: what the run started from; changed in place.
        resume: whether to look for a state at all.

    Raises:
        MuhdiError: no state can be read, or results and state contradict each other.
    """
    state, notes = _read_state(directory) if resume else (None, [])

    def reconciled() -> Results:
        return _earlier_results(directory, recipe, carried.results, state, resume=resume)

    carried.results = distributed.on_rank_zero(reconciled)
    if state is None:
        return Position(notes=notes)
    # A crash may have come between writing the state and removing the oldest one.
    distributed.on_rank_zero(lambda: directory.states.remove_old(recipe.runtime.keep))
    carried.statistics = state["statistics"]
    carried.memory = state["memory"]
    carried.networks = state["networks"]
    # States of earlier versions have none.
    carried.teacher_statistics = state.get("teacher_statistics", {})
    carried.curve = state.get("curve", [])
    stage = state["stage"]
    iterations = recipe.iterations_before(stage) + state["trainer"]["iteration"]
    # States of earlier versions do not say it.
    precision = state["trainer"].get("precision")
    return Position(stage, state["trainer"], iterations, state["metrics"], precision, notes)


def training_state(stage: int, trainer: State, metrics: int, carried: Carried) -> State:
    """What is saved, and read again by `restore`: plain tensors, numbers and texts."""
    return {
        "stage": stage,
        "trainer": trainer,
        "statistics": carried.statistics,
        "memory": carried.memory,
        "networks": carried.networks,
        "teacher_statistics": carried.teacher_statistics,
        "curve": carried.curve,
        "metrics": metrics,
        "results": carried.results.steps,
    }


def _read_state(directory: RunDirectory) -> tuple[State | None, list[str]]:
    """The newest whole state, in every process, and a line for each damaged one."""
    state: State | None = None
    notes: list[str] = []
    # Rank zero renames damaged states; only then do the others look into the folder.
    with distributed.fail_together():
        if distributed.is_rank_zero():
            state, notes = directory.states.load()
    with distributed.fail_together():
        if not distributed.is_rank_zero():
            state, _ = directory.states.load()
    seen = None if state is None else (state["stage"], state["trainer"]["iteration"])
    if len(set(distributed.all_gather_objects(seen))) > 1:
        distributed.raise_on_all(
            RunError(
                f"{directory.folder}: not all machines see the same training state there; they "
                "need one file system"
            )
        )
    return state, notes


def _earlier_results(
    directory: RunDirectory, recipe: Recipe, empty: Results, state: State | None, *, resume: bool
) -> Results:
    """The results up to the state; files of a later time are removed, they will come again."""
    saved = directory.load_results() if resume else {}
    found = Results.from_json(saved, str(directory.results)) if saved else empty
    known = found.steps
    if state is None:
        if known:
            raise RunError(
                f"{directory.folder}: holds results, but no training state to continue from; start "
                "again with --overwrite, or choose another name with --set name="
            )
        return empty
    stage = state["stage"]
    iteration = state["trainer"]["iteration"]
    ended = iteration == recipe.stages()[stage].config.iterations
    # The state may not be the newest one, and a crash may have come between results and state.
    empty.steps = max(known, state["results"], key=len)[: stage + ended]
    if len(empty.steps) < stage:
        raise RunError(f"{directory.results}: lacks the first {stage} steps; restore the file")
    if len(empty.steps) == len(known):
        empty.confusion = found.confusion  # it is of the newest stage
    else:
        directory.save_results(empty.to_json())
    directory.drop_after(stage, iteration, complete=ended and stage == len(recipe.steps))
    return empty
