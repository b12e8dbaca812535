"""The continual sequence.

Train on the source, then step by step, and evaluate every domain after every step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from muhdi import distributed
from muhdi.data.domains import Domains
from muhdi.data.paths import find_file
from muhdi.data.prepared import PreparedSet
from muhdi.data.stream import Batch
from muhdi.data.unlisted import UnlistedIds
from muhdi.errors import Interrupted, MuhdiError
from muhdi.evaluation.domains import evaluate_domains, image_batches
from muhdi.evaluation.predict import predict
from muhdi.evaluation.results import Entry, Results, without_score
from muhdi.files import file_name, writing
from muhdi.models.checkpoint import (
    Checkpoint,
    Start,
    initialise,
    load_exactly,
    read_tensors,
    save_checkpoint,
    save_tensors,
)
from muhdi.models.discriminator import Discriminator
from muhdi.models.norms import convert_norms
from muhdi.models.segmenter import build_segmenter
from muhdi.models.statistics import Statistics, average_statistics, measure_statistics
from muhdi.recipe.methods import AdventConfig
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.progress import Monitor, SilentMonitor
from muhdi.run.signals import noted_signals
from muhdi.training.fabric import check_batches, launch, lost_processes_are_told
from muhdi.training.stage import Hooks, Sets, StageTrainer, State, first_signal

REPORT_AFTER = 50
"""Training batches after which label ids that no table lists are reported, long before the first evaluation."""


def run_sequence(
    recipe: Recipe,
    experiments: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Results:
    """Train and evaluate a whole recipe; see `muhdi.run.directory` for what is written where.

    Args:
        recipe: from `muhdi.load_recipe`.
        experiments: folder of ``snapshots`` and ``logs``; None: the recipe says where they are.
        resume: go on with an interrupted run (or begin, if there is none).
        overwrite: begin anew where a run exists.
        quiet: nothing on the screen.

    Raises:
        MuhdiError: something in the recipe or the data is wrong; nothing was written then.
        muhdi.errors.Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    return _Sequence(recipe, experiments, resume=resume, overwrite=overwrite, quiet=quiet).run()


class _Sequence:
    def __init__(
        self,
        recipe: Recipe,
        experiments: Path | str | None,
        *,
        resume: bool,
        overwrite: bool,
        quiet: bool,
    ) -> None:
        self.recipe = recipe
        if recipe.source is None:
            raise MuhdiError(f"{recipe.name}: trains nothing, it only tests; use muhdi evaluate")
        self.directory = RunDirectory.of(recipe, experiments)
        check_batches(recipe)
        self.fabric = launch(recipe)
        self.first = distributed.is_rank_zero()
        distributed.on_rank_zero(
            lambda: self.directory.check(recipe, resume=resume, overwrite=overwrite)
        )
        with distributed.fail_together():
            self._open()
        distributed.on_rank_zero(lambda: self.directory.create(recipe, overwrite=overwrite))
        self.state: State | None = None
        self.damaged: list[str] = []
        if resume:
            self._read_state()
        self.results = distributed.on_rank_zero(lambda: self._earlier_results(resume=resume))
        with distributed.fail_together():
            self.monitor = self._new_monitor(quiet)

    def _read_state(self) -> None:
        """The first process puts damaged states out of the way.

        Then the others read the same one, in that folder.
        """
        with distributed.fail_together():
            if self.first:
                self.state, self.damaged = self.directory.states.load()
        with distributed.fail_together():
            if not self.first:
                self.state, _ = self.directory.states.load()
            seen = (
                None
                if self.state is None
                else (self.state["stage"], self.state["trainer"]["iteration"])
            )
        if len(set(distributed.all_gather_objects(seen))) > 1:
            distributed.raise_on_all(
                MuhdiError(
                    f"{self.directory.folder}: not all machines see the same training state there;"
                    " they need one file system"
                )
            )

    def _open(self) -> None:
        """Find all data, and make the network that the sequence starts from."""
        recipe = self.recipe
        self.domains = Domains(recipe)
        torch.manual_seed(recipe.seed)
        self.classes = recipe.class_set()
        self.model = build_segmenter(
            recipe.model.backbone, len(self.classes), multi_level=recipe.model.multi_level
        )
        self.start = Start(False, {})
        if recipe.model.init is not None:
            path = find_file(recipe.model.init, recipe.root, "model.init")
            self.start = initialise(self.model, path, recipe.model.backbone, self.classes.classes)
        convert_norms(self.model, recipe.model.batch_norm)
        self.statistics: dict[str, Statistics] = self.start.statistics
        self.unlisted, self.looked_at = UnlistedIds(), 0
        self._check_start()

    def _new_monitor(self, quiet: bool) -> Monitor:
        """Of the first process: it goes on where the state was saved."""
        if not self.first:
            return SilentMonitor()
        length, done = 0, 0
        if self.state is not None:
            length = self.state["metrics"]
            done = self._before(self.state["stage"]) + self.state["trainer"]["iteration"]
        return Monitor(self.directory.metrics, self.directory.logs, length, done, quiet=quiet)

    def _check_start(self) -> None:
        """A retention needs an old model that has learnt something."""
        recipe = self.recipe
        learnt = self.start.heads or recipe.source_training.iterations
        if recipe.steps and not learnt and recipe.steps[0].retention.method != "none":
            raise MuhdiError(
                "steps.0.retention: model.init holds a backbone alone, so there is nothing to"
                f" retain with {recipe.steps[0].retention.method!r}; set"
                " source_training.iterations, or retention: none"
            )
        for number in range(1, len(recipe.steps) + 1):
            config = recipe.steps[number - 1].adaptation
            if isinstance(config, AdventConfig):
                for path in self._given_networks(number).values():
                    load_exactly(
                        Discriminator(len(self.classes), config.width), read_tensors(path)[0], path
                    )

    def _earlier_results(self, *, resume: bool) -> Results:
        recipe = self.recipe
        steps = [step.target.domain_name for step in recipe.steps]
        extra = [data.domain_name for data in recipe.extra_domains]
        targets = list(dict.fromkeys(steps)) or extra  # source only: how well it serves the others
        learnt = [steps.index(name) + 1 if name in steps else 1 for name in targets]
        domains = list(self.domains.validation)
        results = Results(recipe.name, recipe.seed, recipe.source_name(), domains, targets, learnt)
        saved = self.directory.load_results() if resume else {}
        known = Results.from_json(saved).steps if saved else []
        if self.state is None:
            if known:
                raise MuhdiError(
                    f"{self.directory.folder}: holds results, but no training state to go on from;"
                    " start anew with --overwrite, or choose another name with --set name="
                )
            return results
        # The state may not be the newest one: results and networks go back to its time.
        stage, iteration = self.state["stage"], self.state["trainer"]["iteration"]
        ended = iteration == self._iterations(stage)
        results.steps = max(known, self.state.get("results", []), key=len)[: stage + ended]
        if len(results.steps) < stage:
            raise MuhdiError(
                f"{self.directory.results}: lacks the first {stage} steps; restore the file"
            )
        if len(results.steps) != len(known):
            self.directory.save_results(results.to_json())
        self.directory.drop_after(stage, iteration, complete=ended and stage == len(recipe.steps))
        return results

    def _iterations(self, stage: int) -> int:
        return (
            self.recipe.steps[stage - 1].iterations
            if stage
            else self.recipe.source_training.iterations
        )

    def _before(self, stage: int) -> int:
        """Iterations of all stages before this one."""
        return sum(self._iterations(number) for number in range(stage))

    def run(self) -> Results:
        for note in [*self.recipe.notes, *self.domains.notes, *self.damaged]:
            self.monitor.say(note)
        try:
            with lost_processes_are_told(self.fabric), noted_signals() as stopped:
                first = self.state["stage"] if self.state else 0
                for stage in range(first, len(self.recipe.steps) + 1):
                    self._run_stage(stage, stopped)
                    if (signum := first_signal(stopped)) is not None:
                        raise Interrupted(signum)
            with writing(self.directory.samples):
                distributed.on_rank_zero(self._save_samples)
        except MuhdiError:
            self.monitor.close()  # before its files go: it writes from a thread of its own
            if self.first and not self.directory.states.files():
                self.directory.discard()  # nothing was learnt yet: the corrected command need not ask for --overwrite
            raise
        except Interrupted:
            if not self.first:
                sys.exit(0)  # the first process speaks for all
            raise
        finally:
            self.monitor.close()
            if self.first:
                self.directory.release()
        return self.results

    def _run_stage(self, stage: int, stopped: list[int]) -> None:
        """Train one stage (0.

        The source) to its end, save the network, measure statistics, evaluate.
        """
        name = self._stage_name(stage)
        target = self.domains.targets[stage - 1] if stage else None
        trainer = StageTrainer(
            self.fabric, self.recipe, stage, self.model, Sets(self.domains.source, target)
        )
        with distributed.fail_together():
            for network, path in (
                self._previous_networks(stage) | self._given_networks(stage)
            ).items():
                load_exactly(trainer.adaptation.networks()[network], read_tensors(path)[0], path)
        if self.state is not None and self.state["stage"] == stage:
            trainer.load_state(self.state["trainer"])
            self.statistics = self.state["statistics"]
            if trainer.iteration:
                self.monitor.say(f"{name}: going on after iteration {trainer.iteration}")
            self.state = None  # it holds every network a second time

        def save() -> None:
            state = {"stage": stage, "trainer": trainer.state(), "statistics": self.statistics,
                     "metrics": self.monitor.length(), "results": self.results.steps}  # fmt: skip
            done = self._before(stage) + trainer.iteration
            distributed.on_rank_zero(
                lambda: self.directory.states.save(state, done, self.recipe.keep)
            )

        def snapshot() -> None:
            average_statistics(self.model)
            path = self.directory.model(stage, name, trainer.iteration)
            distributed.on_rank_zero(lambda: save_checkpoint(path, self._checkpoint()))

        if trainer.iteration < trainer.config.iterations:
            trainer.fit(self.monitor, name, Hooks(save, snapshot, self._look_at), stopped)
        average_statistics(self.model)
        trained = bool(stage or trainer.config.iterations or self.start.heads)
        if trained:
            self._measure(target)
        distributed.on_rank_zero(lambda: self._save_networks(stage, name, trainer))
        save()
        if len(self.results.steps) <= stage:
            self.results.add(name, self._evaluate() if trained else self._untrained())
            distributed.on_rank_zero(lambda: self.directory.save_results(self.results.to_json()))
            self._announce(stage, name)

    def _save_networks(self, stage: int, name: str, trainer: StageTrainer) -> None:
        """Files of all networks after a stage, if it has changed any."""
        total = trainer.config.iterations
        if total or not self.recipe.steps:
            save_checkpoint(self.directory.model(stage, name, total), self._checkpoint())
            for network, module in trainer.adaptation.networks().items():
                save_tensors(
                    self.directory.network(stage, name, network, total), module.state_dict()
                )

    def _given_networks(self, stage: int) -> dict[str, Path]:
        """Files from which the recipe wants the adaptation's own networks of a stage to start, by name."""
        config = self.recipe.steps[stage - 1].adaptation if stage else None
        if not isinstance(config, AdventConfig):
            return {}
        given = {
            "D_main": config.init_main,
            "D_aux": config.init_aux if self.recipe.model.multi_level else None,
        }
        key = f"steps.{stage - 1}.adaptation"
        return {
            name: find_file(path, self.recipe.root, key)
            for name, path in given.items()
            if path is not None
        }

    def _previous_networks(self, stage: int) -> dict[str, Path]:
        """Files of the discriminators of the last step that had some, if this one is to go on with them."""
        config = self.recipe.steps[stage - 1].adaptation if stage else None
        if not isinstance(config, AdventConfig) or config.discriminators == "fresh":
            return {}
        for earlier in range(stage - 1, 0, -1):
            if isinstance(self.recipe.steps[earlier - 1].adaptation, AdventConfig):
                name, total = self._stage_name(earlier), self._iterations(earlier)
                return {f"D_{level}": self.directory.network(earlier, name, f"D_{level}", total)
                        for level in self.model.levels}  # fmt: skip
        return {}

    def _look_at(self, domain: str, batch: Batch) -> None:
        """Count the raw ids of a training batch that the label table does not list.

        Tell of them early.
        """
        self.looked_at += 1
        for image, counts in batch.unlisted.items():
            self.unlisted.add(domain, image, counts)
        if self.looked_at == REPORT_AFTER:
            self._report_unlisted()

    def _report_unlisted(self) -> None:
        for other in distributed.all_gather_objects(self.unlisted.files):
            self.unlisted.merge(other)
        for line in self.unlisted.report():
            self.monitor.say(line)

    def _untrained(self) -> dict[str, dict[str, Entry]]:
        """The row of a network whose heads are still random."""
        row = dict.fromkeys(self.domains.validation, without_score("untrained"))
        return {kind: dict(row) for kind in self.recipe.evaluation.statistics}

    def _stage_name(self, stage: int) -> str:
        return self.recipe.steps[stage - 1].target.domain_name if stage else "source"

    def _checkpoint(self) -> Checkpoint:
        recipe = self.recipe
        return Checkpoint(
            self.model,
            recipe.model.backbone,
            self.classes.classes,
            recipe.image_size,
            self.statistics,
        )

    def _measure(self, target: PreparedSet | None) -> None:
        """Statistics of the source, whose images are always there, and of the current target.

        Those of earlier targets stay as they were measured, since their images are gone.
        """
        for samples in (self.domains.source, target):
            if samples is not None:
                images = image_batches(samples, self.recipe, self.fabric.device)
                self.statistics = self.statistics | {
                    samples.images.domain: measure_statistics(self.model, images)
                }

    def _evaluate(self) -> dict[str, dict[str, Entry]]:
        kinds = self.recipe.evaluation.statistics
        return evaluate_domains(
            self.recipe, self.model, self.statistics, self.domains, kinds, self.unlisted
        )

    def _announce(self, stage: int, name: str) -> None:
        self._report_unlisted()
        flat: dict[str, float] = {}
        for kind in self.results.kinds():
            row = self.results.matrix(kind)[stage]
            known = dict(zip(self.results.domains, row, strict=True))
            cells = "  ".join(f"{d} {'-' if v is None else f'{v:.1f}'}" for d, v in known.items())
            self.monitor.say(f"{name}: mIoU with {kind} statistics: {cells}")
            flat |= {f"{kind}/{d}": v for d, v in known.items() if v is not None}
        self.monitor.scores(self._before(stage) + self._iterations(stage), flat)

    def _save_samples(self) -> None:
        """Images, labels and predictions after the last step, a few per domain.

        With them the run is complete.
        """
        palette = self.classes.palette().flatten().tolist()

        folder = self.directory.samples.with_name("samples.tmp")

        def save(name: str, label: Any) -> None:
            picture = Image.fromarray(np.asarray(label, np.uint8))
            picture.putpalette(palette)
            picture.save(folder / name)

        evaluation = self.recipe.evaluation
        if self.directory.samples.exists():
            return
        folder.mkdir(exist_ok=True)
        for domain, samples in self.domains.validation.items():
            for kind in evaluation.statistics:
                if kind == "domain" and domain not in self.statistics:
                    continue
                predictions = predict(
                    self.model,
                    samples,
                    kind=kind,
                    domain=self.statistics.get(domain),
                    size=evaluation.size,
                    count=evaluation.samples,
                )
                for number, (sample, prediction) in enumerate(predictions):
                    stem = f"{file_name(domain)}_{number}"
                    Image.fromarray(sample.image).save(folder / f"{stem}_image.png")
                    if sample.label is not None:
                        save(f"{stem}_label.png", sample.label)
                    save(f"{stem}_predicted_{kind}.png", prediction.cpu())
        folder.rename(self.directory.samples)
