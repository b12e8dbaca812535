"""A run: network, optimizer, stages, evaluation, and the recipe that holds them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from muhdi.errors import MuhdiError, RecipeError, nearest
from muhdi.files import file_name
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.domains import DomainConfig, DomainField, FolderConfig
from muhdi.recipe.evaluation import EvaluationConfig, TestConfig
from muhdi.recipe.explain import explain
from muhdi.recipe.model import ModelConfig
from muhdi.recipe.online import OnlineRoundsConfig
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.recipe.plugins import refuse_foreign
from muhdi.recipe.read import (
    came_with_run,
    find_recipe,
    is_of_reference,
    read_recipe,
    spread_steps,
)
from muhdi.recipe.reference_yaml import in_its_own_words
from muhdi.recipe.runtime import RuntimeConfig
from muhdi.recipe.section import (
    RGB,
    Buildable,
    NotNegative,
    Opaque,
    PixelRange,
    Positive,
    Section,
    Size,
)
from muhdi.recipe.stages import MAX_NAME, StageConfig, StepConfig, has_unknown_name
from muhdi.recipe.step_checks import check_steps, check_teachers
from muhdi.taxonomy import CLASS_SETS, MAX_CLASSES, ClassSet, custom

MOST_CHANNELS = 64
"""Of an image."""


class Recipe(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=150)]
    """Of the run, and of its directory."""
    description: str = ""
    """A sentence for people."""
    notes: list[str] = []
    """What the user is told when the recipe is used."""
    seed: NotNegative = 0
    """Of all randomness."""
    classes: str | list[str] = "urban7"
    """Name of a class set, or the class names in order."""
    image_size: Size
    """Width and height that images are brought to. Training sees all of them, or random crops
    (`augment.crop`)."""
    channels: Annotated[int, Field(ge=RGB, le=MOST_CHANNELS)] = RGB
    """Of every image: red, green and blue, and what is beside them, such as near infrared. The
    `bands` of a data set say where that is."""
    pixel_range: PixelRange | None = None
    """Values that become 0 and 255 in files of more than 8 bits, `[0, 4095]` of 12 bits; what lies
    beyond is cut off. None: 0 and 65535. Files of 8 bits stay as they are."""
    source: DomainField | None = None
    """The labelled domain; a recipe that trains nothing needs none."""
    model: ModelConfig = ModelConfig()
    """The network."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights are updated."""
    augment: AugmentConfig = AugmentConfig()
    """Random changes of training images."""
    draft: bool = False
    """Decode JPEG files at a half, a quarter or an eighth of their size where the network sees them
    no larger: quicker, and not quite the same pixels."""
    source_training: StageConfig = StageConfig()
    """Training on the source before the first step."""
    steps: list[StepConfig] = []
    """The target domains, in the order in which they come."""
    extra_domains: list[DomainField] = []
    """Domains that are evaluated like all others and never trained on."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How networks are scored."""
    test: TestConfig = TestConfig()
    """What `muhdi evaluate RECIPE` scores."""
    online: OnlineRoundsConfig | None = None
    """What `muhdi adapt MODEL --online RECIPE` does; no training looks at it."""
    precision: Literal["32-true", "bf16-mixed", "auto"] = "32-true"
    """Precision while training; evaluation is always float32. `auto`: bf16-mixed on a GPU that
    computes in bf16, else 32-true."""
    channels_last: bool = False
    """Memory format of the network and its images."""
    compile: bool = False
    """Compile networks by torch.compile."""
    snapshot_every: Positive | None = None
    """Iterations between networks that are kept within a stage; none: only its last one is."""
    runtime: RuntimeConfig = RuntimeConfig()
    """Where and how fast; everything outside this section is the experiment."""

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

    # --- questions --------------------------------------------------------------------------------

    def size_of(self, data: DomainConfig) -> Size:
        """Width and height that a domain's training images are brought to."""
        return data.image_size or self.image_size

    def training_size(self, data: DomainConfig) -> Size:
        """Width and height of what training sees of a domain: its images, or the fixed crop."""
        return self.augment.window or self.size_of(data)

    @property
    def size_key(self) -> str:
        """The key that decides what training sees, for messages."""
        return "image_size" if self.augment.window is None else "augment.crop"

    def evaluated_size(self, data: DomainConfig) -> Size | None:
        """Width and height of a domain's evaluation images; None: each has its own."""
        size = self.evaluation.input_size
        return None if size == "native" else size or self.size_of(data)

    def class_set(self) -> ClassSet:
        """The class set that ``classes`` names or lists."""
        if isinstance(self.classes, str):
            if self.classes not in CLASS_SETS:
                hint = nearest(self.classes, list(CLASS_SETS))
                raise RecipeError(
                    f"classes: unknown class set {self.classes!r}{hint} (known: "
                    f"{', '.join(CLASS_SETS)}, or a list of class names)"
                )
            return CLASS_SETS[self.classes]
        count = len(self.classes)
        if count < 2 or count > MAX_CLASSES or len(set(self.classes)) < count:
            raise RecipeError(f"classes: give from 2 to {MAX_CLASSES} class names, each once")
        if "ignore" in self.classes:
            raise RecipeError(
                "classes: 'ignore' stands for what is neither learned nor scored; give the class"
                " another name, or leave it out"
            )
        return custom(self.classes)

    def source_name(self) -> str:
        """What results call the source; empty where there is none."""
        return "" if self.source is None else self.source.domain_name

    def domains(self) -> list[tuple[str, DomainConfig]]:
        """Key and section of the source, every step's targets and the extra domains, in order."""
        found: list[tuple[str, DomainConfig]] = []
        if self.source is not None:
            found.append(("source", self.source))
        for number, step in enumerate(self.steps):
            found += step.keyed_domains(f"steps.{number}")
        for number, domain in enumerate(self.extra_domains):
            found.append((f"extra_domains.{number}", domain))
        return found

    def training_domains(self) -> list[tuple[str, DomainConfig]]:
        """Those of `domains` that are trained on: targets, and the source where a stage learns."""
        found = []
        for key, data in self.domains():
            learned = self.trains_on_source if key == "source" else key.startswith("steps.")
            if learned:
                found.append((key, data))
        return found

    @property
    def trains_on_source(self) -> bool:
        """Whether any stage learns from the source's labels."""
        return bool(self.source_training.iterations) or any(step.uses_source for step in self.steps)

    def stages(self) -> list[Stage]:
        """The training on the source, and every step."""
        stages = [Stage(0, "source", "source_training", self.source_training)]
        for number, step in enumerate(self.steps):
            stages.append(Stage(number + 1, step.name, f"steps.{number}", step))
        return stages

    def iterations_before(self, stage: int) -> int:
        """Iterations of all stages before this one; of a whole run, with the number of stages."""
        return sum(before.config.iterations for before in self.stages()[:stage])

    def buildables(self) -> list[Buildable]:
        """Every section that names a class: domains, backbone, adaptations and retentions."""
        found: list[Buildable] = [data for _, data in self.domains()]
        found.append(self.model.backbone)
        for step in self.steps:
            found += [section for _, section in step.methods]
        if self.online is not None:
            found += self.online.methods
        return found

    def foreign_classes(self) -> list[str]:
        """Classes of other packages that the recipe names, as ``package.module:Name``."""
        return sorted({one.class_ for one in self.buildables() if one.class_ is not None})

    def is_trusted(self) -> bool:
        """Whether every class that it names was imported when it was read."""
        return not any(isinstance(one, Opaque) for one in self.buildables())

    def check_trusted(self) -> None:
        """Refuse a recipe that was read without trust in a class that it names.

        Raises:
            RecipeError: names the class.
        """
        for one in self.buildables():
            if isinstance(one, Opaque):
                raise refuse_foreign(one.key)

    def trusted(self) -> Recipe:
        """The same recipe, every class that it names imported.

        Raises:
            RecipeError: one cannot be, or does not take its options.
        """
        data = self.model_dump(mode="json", exclude_none=True)
        try:
            return Recipe.model_validate(data)
        except ValidationError as error:
            raise RecipeError(f"{self.name}: {explain(error, data, Recipe)}") from None

    def experiment(self) -> dict[str, Any]:
        """The recipe as plain values, without what is not part of the experiment."""
        return self.model_dump(mode="json", exclude={"runtime", "description", "notes", "test"})

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


@dataclass(frozen=True, repr=False)
class Stage:
    """A stage of a run.

    Attributes:
        number: 0 is the training on the source.
        name: of the stage: ``source``, or the target's; of several targets ``city+night``.
        key: where the recipe describes it.
        config: its section.
    """

    number: int
    name: str
    key: str
    config: StageConfig

    def __repr__(self) -> str:
        return f"Stage({self.number}, {self.name!r}, {self.config.iterations} iterations)"
