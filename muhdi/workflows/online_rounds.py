"""Online methods compared on one stream: a recipe's domains, round after round, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.domains import cache_of
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import Sample, Size
from muhdi.data.unlisted import UnlistedIds
from muhdi.deploy.online import OnlineSession
from muhdi.deploy.predictor import Predictor
from muhdi.errors import DataError, MuhdiError, RecipeError, check_type
from muhdi.evaluation.metrics import Confusion
from muhdi.evaluation.online_scores import OnlineScores
from muhdi.evaluation.predict import confusion_matrix
from muhdi.files import file_name, write_json
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.load import given_recipe
from muhdi.recipe.online import OnlineConfig, OnlineRoundsConfig
from muhdi.recipe.schema import Recipe
from muhdi.workflows.adapt_online import (
    FACTS,
    NETWORK,
    OnlineRun,
    OnProgress,
    OnRemark,
    check_output,
    saved,
)
from muhdi.workflows.scorer import check_suits

_MB = 2**20


@dataclass
class OnlineRounds:
    """What methods have scored, each from the same network on the same stream.

    Attributes:
        recipe: its name.
        images: of the stream by domain, in the order in which they come.
        arms: by method, what `OnlineRun.to_json` and `OnlineScores.to_json` give.
        notes: for the user.
    """

    recipe: str
    images: dict[str, int]
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class _Domain:
    """A domain of the stream.

    Attributes:
        name: of it.
        samples: its images in order.
        size: width and height at which the network sees them.
    """

    name: str
    samples: PreparedSet
    size: Size


def adapt_in_rounds(  # noqa: PLR0913 - options by name
    model: Path | str,
    recipe: Recipe | Path | str,
    output: Path | str,
    *,
    device: str | None = None,
    overwrite: bool = False,
    trust_code: bool = False,
    on_progress: OnProgress = lambda done, total: None,
    on_remark: OnRemark = lambda line: None,
    **use: Any,
) -> OnlineRounds:
    """Compare online methods on the stream that a recipe's section ``online`` describes.

    Each method starts from the same network. Every image is predicted, scored against its label,
    and only then learned from, without the label. The folder of outputs holds each method's adapted
    network and ``online.json`` with all scores, which is written after each method.

    Args:
        model: a run directory, a network file, or an exported folder.
        recipe: says the domains, the rounds, the methods and their learning rates.
        output: folder that is written.
        device: None: the recipe's.
        overwrite: replace outputs that exist.
        trust_code: whether classes of other packages are imported.
        on_progress: called with the number of images that are done, and of all.
        on_remark: called with each line for the user.
        use: ``head``, ``statistics``, ``domain``, ``weights``, as for `Predictor.load`.

    Raises:
        MuhdiError: something is missing or does not suit, and nothing is written; or an image
            cannot be read, and what was adapted and scored so far is saved.
        Interrupted: after a signal, with the same saved.
    """
    check_type("recipe", recipe, Recipe, str, Path)
    recipe = given_recipe(recipe, trust_code=trust_code)
    if recipe.online is None:
        raise RecipeError(
            f"{recipe.name}: has no section online; add one, such as online: {{rounds: 10}}"
        )
    out = Path(output)
    arms = recipe.online.arms()
    options: dict[str, Any] = {"device": device or recipe.runtime.device, "trust_code": trust_code}
    _check(model, recipe, arms, options | use)
    domains = _open_domains(recipe, recipe.online)
    check_output(out, overwrite=overwrite)
    for name in arms:
        check_output(out / file_name(name), overwrite=overwrite)
    found = OnlineRounds(recipe.name, {one.name: len(one.samples) for one in domains})
    stream = _Stream(recipe, recipe.online, domains, len(arms), on_progress)
    for name, section in arms.items():
        predictor = Predictor.load(model, **options, **use)
        session = predictor.adapt_by(section)
        run = OnlineRun(section, out / file_name(name) / NETWORK)
        scores = OnlineScores(predictor.classes.classes, recipe.evaluation.mean_over)
        try:
            with saved(session, run, lambda line, name=name: on_remark(f"{name}: {line}")):  # type: ignore[misc]
                stream.show(session, scores)
        finally:
            if run.images:
                found.arms[name] = run.to_json() | scores.to_json()
                found.arms[name]["network"] = f"{file_name(name)}/{NETWORK}"
                found.notes = [*recipe.notes, *stream.notes]
                write_json(out / FACTS, found.to_json())
    return found


def _check(
    model: Path | str, recipe: Recipe, arms: dict[str, OnlineConfig], options: dict[str, Any]
) -> None:
    """Refuse, before anything is done, a network or methods that do not suit."""
    for name, section in arms.items():
        predictor = Predictor.load(model, **options)
        check_suits(str(model), predictor.checkpoint, recipe)
        try:
            predictor.adapt_by(section)
        except MuhdiError as error:
            raise RecipeError(f"online.methods: {name}: {error}") from None


def _open_domains(recipe: Recipe, online: OnlineRoundsConfig) -> list[_Domain]:
    """The domains of the stream, in the order in which they come."""
    configs = {data.domain_name: (key, data) for key, data in recipe.domains()}
    names = online.domains or [name for name in configs if name != recipe.source_name()]
    if not names:
        raise RecipeError(
            f"{recipe.name}: has no domain but the source; add extra_domains, or online.domains"
        )
    memory = recipe.runtime.memory_mb * _MB // len(names)
    return [_open_domain(*configs[name], recipe, online, memory) for name in names]


def _open_domain(
    key: str, data: DomainConfig, recipe: Recipe, online: OnlineRoundsConfig, memory: int
) -> _Domain:
    try:
        images = open_split(data, online.split, DataContext.of(recipe))
    except MuhdiError as error:
        raise DataError(f"{key}: {error}") from None
    size = recipe.size_of(data)
    samples = PreparedSet(
        images,
        None if images.fit == "pad" else size,  # what is padded is no image to adapt to
        recipe.evaluation.size,
        with_labels=images.labelled,
        loading=Loading(memory, cache_of(recipe), recipe.draft, recipe.channels),
    )
    if online.images is not None:
        samples = samples.first(online.images)
    return _Domain(data.domain_name, samples, size)


class _Stream:
    """The domains' images, round after round, for one method after another.

    Args:
        recipe: names the classes.
        online: says how many rounds.
        domains: of the stream.
        arms: how many methods come.
        on_progress: called with the number of images that are done, and of all.
    """

    def __init__(
        self,
        recipe: Recipe,
        online: OnlineRoundsConfig,
        domains: Sequence[_Domain],
        arms: int,
        on_progress: OnProgress,
    ) -> None:
        self._classes = len(recipe.class_set())
        self._rounds = online.rounds
        self._domains = domains
        self._total = arms * online.rounds * sum(len(one.samples) for one in domains)
        self._done = 0
        self._on_progress = on_progress
        self._unlisted = UnlistedIds()
        self.notes: list[str] = []

    def show(self, session: OnlineSession, scores: OnlineScores) -> None:
        """Show all rounds to a session, and score them."""
        for _ in range(self._rounds):
            scores.begin_round()
            for one in self._domains:
                scores.add(one.name, self._domain(session, one), len(one.samples))
        self.notes += self._unlisted.report()

    def _domain(self, session: OnlineSession, one: _Domain) -> Confusion | None:
        """The confusion matrix of a domain's images; None without labels."""
        total = torch.zeros(self._classes, self._classes, dtype=torch.int64)
        for index in range(len(one.samples)):
            sample = one.samples[index]
            total += self._image(session, one, sample)
            self._done += 1
            self._on_progress(self._done, self._total)
        return total.numpy() if one.samples.with_labels else None

    def _image(self, session: OnlineSession, one: _Domain, sample: Sample) -> torch.Tensor:
        """Pixels of one image by true and by predicted class."""
        shown = sample.image if sample.label is None else sample.label
        sides = (shown.shape[0], shown.shape[1])
        ids = session.adapt(sample.image, size=one.size, sides=sides).ids
        if sample.label is None:
            return torch.zeros(self._classes, self._classes, dtype=torch.int64)
        self._unlisted.add(one.name, sample.name, sample.unlisted)
        label = torch.from_numpy(sample.label.copy())
        return confusion_matrix(torch.from_numpy(ids), label, self._classes)
