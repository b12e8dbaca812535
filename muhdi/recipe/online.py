"""Online methods: how a network adapts while it predicts, and the rounds in which that is scored.

One section for each method: its options, with the published defaults, and the class that it builds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from muhdi.errors import RecipeError, nearest
from muhdi.files import file_name
from muhdi.recipe import plugins
from muhdi.recipe.evaluation import Scale
from muhdi.recipe.explain import explain
from muhdi.recipe.section import (
    Buildable,
    Fraction,
    Name,
    NotNegative,
    Opaque,
    Positive,
    Rate,
    Section,
    Weight,
    plain,
    refuse_untrusted,
)
from muhdi.recipe.yaml_text import parse_yaml

_SHARE = 0.1
"""Of an image's own moments, where nothing else is said."""
_RESTING = 0.25
"""Of a backbone's layers, the last ones, whose norms `sar` leaves alone."""

Moves = Literal["norms", "decoder", "all"]
"""Which weights a method moves."""


class OnlineConfig(Buildable):
    """How a network adapts while it predicts."""

    kind: ClassVar[str] = "online method"

    method: str = ""
    """The method's name."""
    name: Name | None = None
    """What tables call it; none: its method."""

    @property
    def shown_name(self) -> str:
        """What tables call it."""
        return self.name or self.key.rpartition(":")[2].lower()


class NoOnlineConfig(OnlineConfig):
    """The control: plain prediction, by a network that stays as it is."""

    builds: ClassVar[str] = "muhdi.online.none:NoOnline"

    method: Literal["none"] = "none"
    """The method's name."""


class MomentsConfig(OnlineConfig):
    """Batch norms that take part of their moments, or all of them, from the images."""

    builds: ClassVar[str] = "muhdi.online.bn:Moments"

    method: Literal["bn"] = "bn"
    """The method's name."""
    moments: Literal["exponential", "blend", "batch"] = "exponential"
    """Whose moments normalise: running ones that follow the stream (`exponential`), running ones
    that stay, blended anew with those of each image (`blend`), or those of each image alone
    (`batch`), as the published baseline of Cityscapes -> ACDC has them."""
    momentum: Fraction = _SHARE
    """The share of an image's own moments in `exponential`; in `blend` it is always 0.1."""

    @model_validator(mode="after")
    def _has_a_share(self) -> MomentsConfig:
        # A default may be written out, as in the recipes of runs.
        if self.moments != "exponential" and self.momentum != _SHARE:
            raise ValueError("momentum: is that of moments: exponential; leave it out")
        return self


class LearnerConfig(OnlineConfig):
    """What methods share that move weights by gradients."""

    moves: Moves = "all"
    """The weights that move: scales and shifts of all norms (`norms`), the decoder with the head
    that predicts (`decoder`), or everything that the prediction depends on (`all`)."""
    statistics: Literal["given", "batch"] = "given"
    """What batch norms normalise with: what the network is used with (`given`), or the moments of
    each image (`batch`)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Who makes the steps: one after each image."""
    learning_rate: Rate = 7.5e-6
    """Of every step: 6e-5 / 8 for all methods in the published comparison on ACDC."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Of SGD, or the first of Adam's two; its second is 0.999."""
    weight_decay: Weight = 0.0
    """Of every step."""
    check_every: Positive = 20
    """Images between two looks at whether the network has collapsed. The network as it began then
    predicts the image, too."""
    reset_below: Fraction = 0.5
    """The network has collapsed, and is reset, when it predicts fewer than this share of the
    classes that the network as it began predicts on the same image. A class counts by its pixels:
    exp of the entropy of their shares. 0: never."""


class TentConfig(LearnerConfig):
    """Entropy minimisation by the scales and shifts of norms."""

    builds: ClassVar[str] = "muhdi.online.tent:Tent"

    method: Literal["tent"] = "tent"
    """The method's name."""
    moves: Moves = "norms"
    """The weights that move, `norms`, `decoder` or `all`."""
    statistics: Literal["given", "batch"] = "batch"
    """What batch norms normalise with: the moments of each image (`batch`) as in the paper, or what
    the network is used with (`given`)."""
    loss: Literal["entropy", "hard_label"] = "entropy"
    """Mean entropy of the pixels (`entropy`) as in the paper, or the cross entropy to the network's
    own most likely classes (`hard_label`), which published baselines on ACDC ran."""


class CottaConfig(LearnerConfig):
    """A mean teacher over many views of an image, and weights that now and then go back."""

    builds: ClassVar[str] = "muhdi.online.cotta:Cotta"

    method: Literal["cotta"] = "cotta"
    """The method's name."""
    teacher_momentum: Fraction = 0.999
    """Of the teacher's weights, after each step."""
    scales: Annotated[list[Scale], Field(min_length=1)] = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    """The teacher's views: the image at these multiples of its size."""
    flip: bool = True
    """Whether each view is mirrored, too."""
    threshold: Fraction = 0.69
    """Confidence of the network as it began above which the teacher looks at the image once; below
    it, its views are averaged. 0.69 is the 5 % quantile of the confidence on Cityscapes."""
    switch: Literal["pixel", "image"] = "pixel"
    """Whether each `pixel` is compared with the threshold, as in the published code for ACDC, or
    the mean over an `image`, as in the paper."""
    labels: Literal["hard", "soft"] = "hard"
    """Cross entropy to the teacher's most likely classes (`hard`), as in the published code for
    ACDC, or to its probabilities (`soft`), as in the paper."""
    restore: Fraction = 0.01
    """Probability that an element of a weight goes back to where it began, after each step."""
    seed: NotNegative = 0
    """Of the elements that go back."""


class SarConfig(LearnerConfig):
    """Sharpness-aware entropy minimisation on reliable pixels."""

    builds: ClassVar[str] = "muhdi.online.sar:Sar"

    method: Literal["sar"] = "sar"
    """The method's name."""
    moves: Moves = "norms"
    """The weights that move, `norms`, `decoder` or `all`."""
    statistics: Literal["given", "batch"] = "batch"
    """What batch norms normalise with: the moments of each image (`batch`) as in the published
    code, or what the network is used with (`given`)."""
    optimizer: Literal["adam", "sgd"] = "sgd"
    """Who makes the steps: one after each image."""
    learning_rate: Rate = 2.5e-4
    """Of every step."""
    resting: Fraction = _RESTING
    """The share of the backbone's layers, the last ones, whose norms stay, as do those of the
    decoder: the last stage of a ResNet, three of twelve blocks of a transformer. With `moves:
    norms`; 0: all norms move."""
    margin: Fraction = 0.4
    """Pixels are reliable whose entropy is below this share of ln C."""
    radius: Weight = 0.05
    """Length of the step uphill, at whose end the gradient is taken."""
    reset_entropy: Fraction = 0.029
    """The network is reset, too, when the moving mean (0.9) of the reliable pixels' entropy falls
    below this share of ln C: 0.2 of ln 1000 in the paper. A network that is as sure as that of the
    first image is not reset by this rule, and a line says so. 0: never."""

    @model_validator(mode="after")
    def _has_norms(self) -> SarConfig:
        if self.moves != "norms" and self.resting != _RESTING:
            raise ValueError("resting: is for moves: norms; leave it out")
        return self


class OpaqueOnlineConfig(Opaque, OnlineConfig):
    """An online method of another package, not imported."""

    model_config = ConfigDict(extra="allow")


OnlineField = Annotated[
    SerializeAsAny[OnlineConfig],
    BeforeValidator(partial(plugins.read_section, OnlineConfig)),
]

CONTROL = NoOnlineConfig()
USUAL = "bn"
"""The method where nobody chooses: the cheapest, and no gradient can lead it astray."""


class _One(BaseModel):
    """A section by itself."""

    method: OnlineField


def read_online(
    method: str | OnlineConfig, options: Mapping[str, Any], *, trust_code: bool = True
) -> OnlineConfig:
    """The section of an online method.

    Args:
        method: its name, a class as ``package.module:Name``, or its section.
        options: of the section, by key.
        trust_code: whether a class of another package is imported.

    Raises:
        RecipeError: there is no such method, or an option is wrong.
    """
    value: Any = method
    if isinstance(method, OnlineConfig):
        value = plain(method) | dict(options)
    elif ":" in method:
        value = {"class": method, **options}
    else:
        value = {"method": method, **options}
    data = {"method": value}
    try:
        found = _One.model_validate(data, context={"trust_code": trust_code}).method
    except ValidationError as error:
        raise RecipeError(explain(error, data, _One)) from None
    refuse_untrusted([found])
    return found


def read_options(settings: Sequence[str]) -> dict[str, Any]:
    """Options of a method as a command line gives them, ``learning_rate=1e-4``; values are YAML.

    Raises:
        RecipeError: one cannot be read.
    """
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(
                f"--set {setting}: must read key=value, such as --set learning_rate=1e-4"
            )
        options[key.strip()] = parse_yaml(text, f"--set {setting}")
    return options


class OnlineRoundsConfig(Section):
    """A stream of whole domains, round after round, on which methods adapt while they are scored.

    `muhdi adapt MODEL --online RECIPE` runs it. Every method starts from the same network.
    """

    rounds: Positive = 10
    """How often the domains come."""
    domains: list[str] = []
    """Names of the domains in the order in which they come; none: all but the source."""
    split: Literal["train", "val"] = "train"
    """Which of their images come, in the order of their names."""
    images: Positive | None = None
    """Only the first so many images of each domain; none: all."""
    methods: Annotated[list[OnlineField], Field(min_length=1)] = [
        CONTROL,
        MomentsConfig(),
        TentConfig(),
        CottaConfig(),
        SarConfig(),
    ]
    """The methods, one after another; `none` is plain prediction."""
    learning_rates: list[Rate] = []
    """Every method that has a learning rate runs with each of these; none: with its own."""

    def arms(self) -> dict[str, OnlineConfig]:
        """What is compared, by name: each method, or a method with one of the learning rates.

        Raises:
            RecipeError: two methods have the same name.
        """
        found: dict[str, OnlineConfig] = {}
        for method in self.methods:
            rates = self.learning_rates if hasattr(method, "learning_rate") else []
            each = {f"{method.shown_name}_lr{rate:g}": {"learning_rate": rate} for rate in rates}
            for name, changed in (each or {method.shown_name: {}}).items():
                # Each has a folder of that name.
                if file_name(name).lower() in {file_name(known).lower() for known in found}:
                    raise RecipeError(
                        f"online.methods: two are called {name!r}, or have folders of one name;"
                        " give one of them another 'name'"
                    )
                found[name] = method.model_copy(update=changed)
        return found

    def check(self, known: Sequence[str], *, is_open: bool) -> None:
        """Refuse domains that the recipe lacks or lists twice, and names that two methods share.

        Args:
            known: names of the recipe's domains.
            is_open: whether there are others, whose names only a class that is not trusted knows.

        Raises:
            RecipeError: names the key.
        """
        self.arms()
        for place, name in enumerate(self.domains):
            if name in self.domains[:place]:
                raise RecipeError(
                    f"online.domains: {name!r} is listed twice; name each once, it comes back in"
                    " the next round"
                )
            if name not in known and not is_open:
                raise RecipeError(
                    f"online.domains: no domain is called {name!r}{nearest(name, known)} (known:"
                    f" {', '.join(known)})"
                )
