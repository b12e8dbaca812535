"""The model card of an exported folder, written from the network and its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from muhdi.deploy.find import PICTURE
from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results, row_titles
from muhdi.models.checkpoint import Checkpoint
from muhdi.recipe.evaluation import IN_WORDS
from muhdi.recipe.load import RECIPE, load_recipe
from muhdi.report.labelled import labelled_rows
from muhdi.report.reached import reached
from muhdi.report.result_table import Cell, markdown
from muhdi.report.tables import matrix_table
from muhdi.taxonomy import class_set_of

USE = """
## Use

```sh
pip install .    # in a checkout of muhdi's repository
muhdi predict FOLDER street.jpg -o predictions
```

```python
from muhdi import Predictor

prediction = Predictor.from_pretrained("FOLDER OR REPOSITORY").predict("street.jpg")
prediction.ids        # uint8 [H, W], positions in the table of classes below
prediction.overlay()  # a PIL image
```
"""

LIMITS = """
## Limits

The network was adapted to its target domains {labels}. Its scores are those of the domains
in the tables and of no other place; a domain that is marked unlabelled was never scored. Which
normalisation statistics are used matters as much as the method: `running` averages, those of a
named `domain`, each `image`'s own, the averages moved a tenth towards those (`blend`), or the
mixture of all stored domains (`pooled`).
"""

NO_LICENCE = "unknown"
"""Stands in a card where nobody said under which licence the weights are."""


@dataclass(frozen=True)
class Usage:
    """What is asked of a network.

    Attributes:
        head: whose predictions are given.
        statistics: one of `muhdi.models.statistics.CHOICES`, or ``none``.
        domain: whose statistics, with ``domain``.
        weights: one of `muhdi.recipe.evaluation.WEIGHTS`.
    """

    head: str
    statistics: str
    domain: str | None
    weights: str = "model"


@dataclass(frozen=True)
class CardNotes:
    """What a card says beside what the network's file holds.

    Attributes:
        run: directory of its run; None: nothing is said of training and scores.
        licence: of the weights, as the hub calls it, such as ``apache-2.0``.
        verified: a sentence on how the export was verified; may be empty.
    """

    run: Path | None = None
    licence: str = NO_LICENCE
    verified: str = ""

    def __post_init__(self) -> None:
        if len(self.licence.splitlines()) != 1:
            raise RecipeError("licence: give one line, such as apache-2.0")


def model_card(
    checkpoint: Checkpoint, usage: Usage, notes: CardNotes, *, pictured: bool = False
) -> str:
    """The text of ``README.md``.

    Args:
        checkpoint: the network.
        usage: what is asked of it by default.
        notes: what else is known.
        pictured: whether the folder holds a picture.
    """
    backbone = checkpoint.backbone.key
    name = backbone if notes.run is None else notes.run.name
    results = None
    if notes.run is not None:
        results = Results.load(notes.run)
    width, height = checkpoint.image_size
    statistics = usage.statistics
    chosen = statistics if usage.domain is None else f"{statistics} ({usage.domain})"
    if usage.weights in IN_WORDS:
        chosen = f"{IN_WORDS[usage.weights]}, and {chosen}"
    parts = [
        _head(name, notes.licence, results, usage),
        f"# {name}\n",
        f"Semantic segmentation with {len(checkpoint.classes)} classes. Backbone"
        f" `{backbone}`, trained at {width}x{height}. By default the head `{usage.head}` with"
        f" {chosen} statistics. {notes.verified}\n",
    ]
    if pictured:
        parts.append(f"![An image and what the network makes of it]({PICTURE})\n")
    parts += [USE, _classes(checkpoint)]
    if notes.run is not None and results is not None:
        parts += [_training(notes.run, results), _scores(results)]
    parts += [LIMITS.format(labels=_labels(results)), _licence(notes.licence)]
    return "\n".join(parts)


def _classes(checkpoint: Checkpoint) -> str:
    rows: list[list[Cell]] = []
    colours = class_set_of(checkpoint.classes).hex_colours()
    for number, (name, colour) in enumerate(zip(checkpoint.classes, colours, strict=True)):
        rows.append([str(number), name, colour])
    return f"## Classes\n\n{markdown(['id', 'class', 'colour'], rows)}"


def _head(name: str, licence: str, results: Results | None, usage: Usage) -> str:
    """What the hub reads."""
    entries: dict[str, Any] = {
        "library_name": "muhdi",
        "pipeline_tag": "image-segmentation",
        "license": licence,
        "tags": ["muhdi", "semantic-segmentation", "domain-adaptation", "continual-learning"],
    }
    # Scores of other weights are not this network's.
    if results is not None and results.steps and results.scored_weights == usage.weights:
        measured = _measured(results, usage.statistics)
        entries["model-index"] = [{"name": name, "results": measured}]
    return f"---\n{yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)}---\n"


def _measured(results: Results, wanted: str) -> list[dict[str, Any]]:
    """The newest scores, as entries of the hub's model index.

    With the statistics that are used, if one choice of them is for all domains and was scored.
    """
    entries = []
    used = wanted in results.statistics and wanted != "domain"
    statistics = wanted if used else results.main_statistics
    for domain, entry in results.steps[-1]["scores"][statistics].items():
        if entry.get("miou") is None:
            continue
        metric = {
            "type": "mean_iou",
            "name": f"mIoU ({statistics} statistics)",
            "value": entry["miou"],
        }
        entries.append(
            {
                "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
                "dataset": {"type": domain, "name": domain},
                "metrics": [metric],
            }
        )
    return entries


def _labels(results: Results | None) -> str:
    """With how many labels the targets were learned."""
    rows = [] if results is None else labelled_rows(results)
    if not rows:
        return "without labels"
    return f"without labels but for a few of their training images ({'; '.join(rows)})"


def _training(run: Path, results: Results) -> str:
    recipe = load_recipe(run / RECIPE, trust_code=False)
    lines = ["## Training\n", f"Recipe `{recipe.name}`, seed {recipe.seed}. {recipe.description}\n"]
    lines.append(
        f"* source: {recipe.source_name()}, {recipe.source_training.iterations} iterations"
    )
    titles = row_titles(results.steps)
    for number, step in enumerate(recipe.steps, 1):
        # Of an unfinished run the last steps have no results.
        title = titles[number] if number < len(titles) else step.name
        lines.append(
            f"* {title}: adaptation {step.adaptation.key}, retention"
            f" {step.retention.key}, {step.iterations} iterations"
        )
    return "\n".join(lines) + "\n"


def _scores(results: Results) -> str:
    parts = ["## Scores\n"]
    if results.scored_weights in IN_WORDS:
        words = IN_WORDS[results.scored_weights]
        parts.append(f"Scored with {words}.\n")
    for views in sorted({images.views for images in results.scored.values()} - {""}):
        parts.append(f"Probabilities were averaged over {views}.\n")
    for statistics in results.statistics:
        table = matrix_table(results, statistics)
        parts += [
            f"{table.title}\n",
            table.markdown(),
            f"{reached(results, statistics, with_page=False)}\n",
        ]
    return "\n".join(parts)


def _licence(licence: str) -> str:
    if licence == NO_LICENCE:
        return (
            "## Licence\n\nNobody said under which licence these weights are. That depends on the"
            " data and on the weights that training began with; muhdi itself is under"
            " Apache-2.0.\n"
        )
    return f"## Licence\n\nThe weights: {licence}. muhdi itself: Apache-2.0.\n"
