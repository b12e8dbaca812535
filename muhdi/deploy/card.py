"""The model card of an exported folder, written from the run."""

from __future__ import annotations

from pathlib import Path

from muhdi.deploy.predictor import Predictor
from muhdi.evaluation.results import Results
from muhdi.files import read_json
from muhdi.recipe.load import RECIPE, load_recipe
from muhdi.report.reached import reached
from muhdi.report.tables import matrix_table

USE = """
## Use

```python
from muhdi import Predictor

prediction = Predictor.from_pretrained("FOLDER OR REPOSITORY").predict("street.jpg")
prediction.ids        # uint8 [H, W], positions in the table of classes
prediction.overlay()  # a PIL image
```
"""

LIMITS = """
## Limits

The network was adapted to its target domains without labels. Its scores are those of the domains
in the tables and of no other place; a domain that is marked unlabelled was never scored. Which
normalisation statistics are used matters as much as the method: `running` averages, those of a
named `domain`, or each `image`'s own.
"""


def model_card(predictor: Predictor, run: Path | None, verified: str) -> str:
    """The text of ``README.md``.

    Args:
        predictor: the network, with its choice of head and statistics.
        run: its run directory; None: nothing is said of training and scores.
        verified: a sentence on how the export was verified.
    """
    head = (
        "---\nlibrary_name: muhdi\npipeline_tag: image-segmentation\ntags: [muhdi,"
        " semantic-segmentation, "
    )
    head += "domain-adaptation, continual-learning]\n---\n\n"
    width, height = predictor.image_size
    chosen = (
        predictor.statistics
        if predictor.domain is None
        else f"{predictor.statistics} ({predictor.domain})"
    )
    parts = [f"# {predictor.backbone if run is None else run.name}\n"]
    names = ", ".join(predictor.classes.classes)
    parts.append(
        f"Semantic segmentation with {len(predictor.classes)} classes: {names}. Backbone"
        f" `{predictor.backbone}`, trained at {width}x{height}. By default the head"
        f" `{predictor.head}` with {chosen} statistics. {verified}\n"
    )
    parts.append(USE)
    if run is not None:
        parts += [_training(run), _scores(run)]
    return head + "\n".join([*parts, LIMITS])


def _training(run: Path) -> str:
    recipe = load_recipe(run / RECIPE, trust_code=False)
    lines = ["## Training\n", f"Recipe `{recipe.name}`, seed {recipe.seed}. {recipe.description}\n"]
    lines.append(
        f"* source: {recipe.source_name()}, {recipe.source_training.iterations} iterations"
    )
    for step in recipe.steps:
        lines.append(
            f"* {step.target.domain_name}: adaptation {step.adaptation.key}, retention"
            f" {step.retention.key}, {step.iterations} iterations"
        )
    return "\n".join(lines) + "\n"


def _scores(run: Path) -> str:
    results = Results.from_json(read_json(run / "results.json"))
    parts = ["## Scores\n"]
    for statistics in results.statistics:
        table = matrix_table(results, statistics)
        parts += [
            f"{table.title}\n",
            table.markdown(),
            f"{reached(results, statistics)}\n",
        ]
    return "\n".join(parts)
