"""The recipe: how it is read, and whether its parts suit each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from muhdi.errors import MuhdiError, RecipeError, nearest
from muhdi.files import file_name
from muhdi.recipe.domains import DomainConfig, FolderConfig
from muhdi.recipe.explain import explain
from muhdi.recipe.fields import RecipeFields
from muhdi.recipe.read import (
    came_with_run,
    find_recipe,
    is_of_reference,
    read_recipe,
    spread_steps,
)
from muhdi.recipe.reference_yaml import in_its_own_words
from muhdi.recipe.section import plain, refuse_untrusted
from muhdi.recipe.stages import MAX_NAME, has_unknown_name
from muhdi.recipe.step_checks import check_steps, check_teachers


class Recipe(RecipeFields):
    """A whole run."""

    def __repr__(self) -> str:
        stages = " -> ".join(stage.name for stage in self.stages())
        return f"Recipe({self.name!r}, seed={self.seed}, {stages})"

    __str__ = __repr__

    @classmethod
    def load(
        cls,
        recipe: str | Path,
        settings: Sequence[str] = (),
        seed: int | None = None,
        *,
        trust_code: bool | None = None,
        **changes: Any,
    ) -> Recipe:
        """A checked recipe.

        Args:
            recipe: a YAML file, or the name of a shipped recipe.
            settings: ``key=value`` in order, ``steps.0.iterations=5`` for example; values are YAML.
            seed: replaces the recipe's seed; the run is then called ``<name>_seed<seed>``.
            trust_code: whether classes of other packages that it names are imported; None: unless
                it is, or extends, the recipe in a run directory.
            changes: values by key: ``image_size=[64, 32]``, ``**{"steps.0.iterations": 5}``.

        Raises:
            RecipeError: names the file or the key, and says what to do.
        """
        path = find_recipe(recipe)
        data = read_recipe(path, settings, changes)
        if seed is not None:
            data["seed"] = seed
            data["name"] = f"{data.get('name', path.stem)}_seed{seed}"
        data.setdefault("name", path.stem)
        if trust_code is None:
            trust_code = not came_with_run(path)
        try:
            return cls.model_validate(spread_steps(data), context={"trust_code": trust_code})
        except ValidationError as error:
            message = explain(error, data, cls)
        except MuhdiError as error:
            message = str(error)
        if is_of_reference(path):
            message = in_its_own_words(message)
        raise RecipeError(f"{path.name}: {message}")

    def check_trusted(self) -> None:
        """Refuse a recipe that was read without trust in a class that it names.

        Raises:
            RecipeError: names the class.
        """
        refuse_untrusted(self.buildables())

    def trusted(self) -> Recipe:
        """The same recipe, every class that it names imported.

        Raises:
            RecipeError: one cannot be, or does not take its options.
        """
        data = plain(self)
        try:
            return Recipe.model_validate(data)
        except ValidationError as error:
            raise RecipeError(f"{self.name}: {explain(error, data, Recipe)}") from None

    # --- consistency ------------------------------------------------------------------------------

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        self.class_set()
        self._check_domains()
        self._check_channels()
        self._check_mean()
        sizes = {key: self.evaluated_size(data) for key, data in self.domains()}
        self.evaluation.check_views(sizes)
        self._check_training()
        self._check_stages()
        steps = {f"steps.{n}": step.iterations for n, step in enumerate(self.steps)}
        self.evaluation.check_selection(self.snapshot_every, steps)
        self.evaluation.check_every(steps)
        check_steps(self)
        self._check_names()
        return self

    def _check_channels(self) -> None:
        """Every domain has the recipe's channels, as far as its section says it."""
        for key, data in self.domains():
            if data.channels not in (None, self.channels):
                raise RecipeError(
                    f"{key}: images of {data.domain_name!r} have {data.channels} channels, but"
                    f" channels is {self.channels}; set channels: {data.channels}, or give another"
                    " data set"
                )

    def _check_domains(self) -> None:
        """A name stands for one domain, and id tables name known classes."""
        names: dict[str, DomainConfig] = {}
        files: dict[str, str] = {}
        for key, data in self.domains():
            if has_unknown_name(data):
                continue
            known = names.setdefault(data.domain_name, data)
            if known != data:
                raise RecipeError(
                    f"{key}: another domain is called {data.domain_name!r} too; give one of them a "
                    "'name' of its own"
                )
            stem = file_name(data.domain_name)
            if len(stem.encode()) > MAX_NAME:
                raise RecipeError(
                    f"{key}: its name is too long for a file; give it a 'name' of its own"
                )
            if files.setdefault(stem, data.domain_name) != data.domain_name:
                raise RecipeError(
                    f"{key}: files of {data.domain_name!r} would be called like those of "
                    f"{files[stem]!r}; give one of them another 'name'"
                )
            if isinstance(data, FolderConfig):
                data.check_classes(key, self.class_set())
        if not self.domains():
            raise RecipeError(
                "source: this key is missing; without one there must be extra_domains to evaluate"
            )

    def _check_mean(self) -> None:
        """The classes of the mean are classes of the recipe."""
        known = self.class_set().classes
        for name in self.evaluation.mean_over:
            if name not in known:
                raise RecipeError(
                    f"evaluation.mean_over: no class is called {name!r}{nearest(name, known)} "
                    f"(known: {', '.join(known)})"
                )

    def _check_training(self) -> None:
        """There is something to do, and what it takes."""
        trains = bool(self.steps or self.source_training.iterations)
        if self.trains_on_source and self.source is None:
            raise RecipeError(
                "source: this key is missing; training needs a labelled source, unless every step"
                " says source: none"
            )
        tests = bool(self.model.init or self.test.models or self.test.mode == "best")
        if not (trains or tests or self.online):
            raise RecipeError(
                "steps: nothing to do; add steps, source_training.iterations, model.init, "
                "test.models or online"
            )
        if trains and self.evaluation.weights == "ema" and self.optimizer.ema is None:
            raise RecipeError(
                "evaluation.weights: there is no average of the weights; set optimizer.ema, to"
                " 0.999 for example, or evaluation.weights: model"
            )
        if trains and self.evaluation.weights == "teacher":
            check_teachers(self)
        if self.compile and self.model.checkpointing:
            raise RecipeError(
                "compile: torch.compile cannot take model.checkpointing; leave one of them out"
            )
        untrained = not self.source_training.iterations and not self.model.init
        if self.steps and untrained:
            self.steps[0].check_old_model("steps.0")

    def _check_stages(self) -> None:
        """Every stage suits the learning rate, and its images the crop."""
        for stage in self.stages():
            config = stage.config
            self.optimizer.check_stage(stage.key, config.iterations, config.schedule)
            if config.rare_classes is not None:
                key = f"{stage.key}.rare_classes"
                config.rare_classes.check_crop(key, crops=self.augment.crops)
        for key, data in self.training_domains():
            size_key = "image_size" if data.image_size is None else f"{key}.image_size"
            self.augment.check_fits(size_key, self.size_of(data))

    def _check_names(self) -> None:
        """Domains that sections name are there."""
        known = sorted({data.domain_name for _, data in self.domains()})
        is_open = any(has_unknown_name(data) for _, data in self.domains())
        self.test.check(known, is_open=is_open)
        if self.online is not None:
            self.online.check(known, is_open=is_open)
