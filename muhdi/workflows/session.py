"""What the stages of a run share while it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

from lightning_fabric import Fabric

from muhdi import distributed
from muhdi.data.domains import Domains
from muhdi.data.rare_classes import RareClasses
from muhdi.data.sets import Fit
from muhdi.data.stream import LoadedBatch
from muhdi.data.unlisted import UnlistedIds
from muhdi.evaluation.domains import Scored
from muhdi.models.average import stand_ins
from muhdi.models.checkpoint import Checkpoint
from muhdi.models.segmenter import Segmenter
from muhdi.preflight.count_classes import sampling_notes
from muhdi.recipe.evaluation import WeightsChoice
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.log import RunLog
from muhdi.training.carried import Carried
from muhdi.training.sets import Sets
from muhdi.training.start import Start

REPORT_UNLISTED_AFTER = 50
"""Training batches after which label ids that no table lists are reported.

Long before the first evaluation: hours may lie between.
"""


@dataclass
class Session:
    """What the stages of a run share.

    Attributes:
        rare: what stages that sample rare classes draw source images from, by number.
        unlisted: label ids that no table lists, as they are met.
        batches: training batches so far.
        told_absent: whether the user knows which classes the evaluation's labels lack.
    """

    fabric: Fabric
    recipe: Recipe
    domains: Domains
    run: RunDirectory
    log: RunLog
    start: Start
    rare: dict[int, RareClasses] = field(default_factory=dict)
    signals: list[int] = field(default_factory=list)
    unlisted: UnlistedIds = field(default_factory=UnlistedIds)
    batches: int = 0
    told_absent: bool = False

    @property
    def carried(self) -> Carried:
        """What goes from stage to stage."""
        return self.start.carried

    @property
    def scored(self) -> Scored:
        """The network, and how the recipe wants it scored."""
        statistics = self.recipe.evaluation.statistics
        known = stand_ins(self.carried.average, self.carried.teacher)
        scored = known.get(self.recipe.evaluation.weights)
        if scored is not None:
            return Scored(scored.network, scored.statistics, statistics)
        return Scored(self.carried.network, self.carried.statistics, statistics)

    def has_learned(self, stage: int) -> bool:
        """Whether the network's heads are worth a score after a stage."""
        return bool(stage or self.recipe.source_training.iterations or self.start.trained)

    def stage_name(self, stage: int) -> str:
        """Of the source, or of the stage's targets."""
        return self.recipe.stages()[stage].name

    def sets(self, stage: int) -> Sets:
        """Where the images of a stage come from."""
        source = self.domains.source
        if not stage:
            return Sets(source, (), self.rare.get(stage))
        targets = self.domains.targets[stage - 1]
        labelled = self.domains.labelled[stage - 1]
        if not self.recipe.steps[stage - 1].uses_source:
            return Sets(None, targets, labelled=labelled)
        return Sets(source, targets, self.rare.get(stage), labelled)

    def checkpoint(self, network: Segmenter) -> Checkpoint:
        """What a network's file holds."""
        carried = self.carried
        return Checkpoint(
            network,
            self.recipe.model.backbone,
            self.recipe.class_set().classes,
            self.recipe.image_size,
            statistics=carried.statistics,
            memory=carried.memory,
            networks=carried.networks,
            fit=self._fit,
            default_statistics=self.recipe.evaluation.default_statistics,
            average=carried.average,
            teacher=carried.teacher,
            default_weights=self._default_weights,
            tune=self.recipe.model.tune,
            pixel_range=self.recipe.pixel_range,
        )

    @property
    def _fit(self) -> Fit:
        """How images were brought to the network's size."""
        sets = (self.domains.source, *chain.from_iterable(self.domains.targets))
        return next((one.images.fit for one in sets if one is not None), "stretch")

    @property
    def _default_weights(self) -> WeightsChoice:
        """What the recipe scores, or the network's own weights where there is no teacher yet."""
        wanted = self.recipe.evaluation.weights
        return "model" if wanted == "teacher" and self.carried.teacher is None else wanted

    def print_notes(self, notes: list[str]) -> None:
        """Tell the user what the recipe, the data and the saved state have to say."""
        found = [*self.recipe.notes, *self.domains.notes, *self.start.notes]
        for note in [*found, *sampling_notes(self.recipe, self.rare), *notes]:
            self.log.print(note)

    def count_unlisted(self, domain: str, batch: LoadedBatch) -> None:
        """Count the raw ids of a training batch that the label table does not list."""
        self.batches += 1
        for image, counts in batch.unlisted.items():
            self.unlisted.add(domain, image, counts)
        if self.batches == REPORT_UNLISTED_AFTER:
            self.report_unlisted()

    def report_unlisted(self) -> None:
        """Report the raw ids that were met, of all processes, each domain once."""
        for files in distributed.all_gather_objects(self.unlisted.files):
            self.unlisted.merge(files)
        for line in self.unlisted.report():
            self.log.print(line)
