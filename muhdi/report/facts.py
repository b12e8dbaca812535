"""Seed, time, memory and versions of a run, as text."""

from __future__ import annotations

from muhdi.recipe.evaluation import IN_WORDS
from muhdi.report.loss_charts import iterations
from muhdi.report.run_files import RunData

Facts = list[tuple[str, str]]
"""Names and values."""


def facts(run: RunData) -> Facts:
    """What a report says of how a run came about."""
    return _of_recipe(run) + _of_sessions(run)


def _of_recipe(run: RunData) -> Facts:
    recipe = run.recipe
    width, height = recipe.image_size
    network = f"{recipe.model.backbone.key}, {width}x{height}"
    window = recipe.augment.window
    if window is not None:
        network += f", trained on crops of {window[0]}x{window[1]}"
    counts = zip(run.stages, iterations(run), strict=True)
    views = {images.views for images in run.results.scored.values()} - {""}
    scored = [("scored", f"averaged over {each}") for each in views]
    if run.results.scored_weights in IN_WORDS:
        scored.append(("scored weights", IN_WORDS[run.results.scored_weights]))
    return [
        ("seed", str(recipe.seed)),
        ("network", network),
        ("stages", f"{len(run.results.steps)} of {len(run.stages)} evaluated"),
        ("iterations", ", ".join(f"{stage} {count}" for stage, count in counts)),
        *scored,
    ]


def _of_sessions(run: RunData) -> Facts:
    """What ``environment.json`` says; an interrupted run has several sessions."""
    if not run.sessions:
        return [("time, memory, versions", "this run did not record them")]
    last = run.sessions[-1]
    time = duration(sum(session["seconds"] for session in run.sessions))
    if len(run.sessions) > 1:
        time += f" in {len(run.sessions)} sessions"
    memory = max(session["memory_mb"] for session in run.sessions)
    found = [("time", time), ("memory, at most", f"{memory:,} MB")]
    if last["gpu_memory_mb"] is not None:
        # An earlier session may have run without a GPU.
        gpu_memory = max(session["gpu_memory_mb"] or 0 for session in run.sessions)
        found.append(("memory of the GPU", f"{gpu_memory:,} MB"))
    # Earlier versions did not record it.
    precisions = [session["precision"] for session in run.sessions if "precision" in session]
    if precisions:
        found.append(("precision", ", then ".join(dict.fromkeys(precisions))))
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    return [
        *found,
        ("started", run.sessions[0]["started"]),
        ("device", f"{last['device']}, {last['threads']} threads"),
        ("versions", f"{versions}; Python {last['python']}, {last['platform']}"),
    ]


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{seconds:.1f} s"
