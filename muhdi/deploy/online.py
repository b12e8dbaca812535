"""A network that adapts while it predicts, as a service or a command uses it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from muhdi.data.arrays import images_tensor
from muhdi.data.channels import Channels
from muhdi.data.resize import resize_image, shown_window
from muhdi.data.sets import Fit, Size
from muhdi.deploy.card import Usage
from muhdi.deploy.prediction import Pixels, Prediction
from muhdi.deploy.view import View
from muhdi.errors import RecipeError
from muhdi.evaluation.argmax import classes_at
from muhdi.losses import upsample
from muhdi.models.average import WeightAverage
from muhdi.models.checkpoint import Checkpoint
from muhdi.models.inference import Inference
from muhdi.models.statistics import Statistics
from muhdi.online.base import Online, OnlineContext
from muhdi.recipe.online import OnlineConfig
from muhdi.taxonomy import class_set_of

LATEST = 1000
"""Images whose latencies are kept: so memory stays as it is, however long the stream."""


class Latency:
    """How long images take, from pixels to classes, in milliseconds."""

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self._latest: deque[float] = deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        """One image is done."""
        self.images += 1
        self.seconds += seconds
        self._latest.append(seconds)

    def to_json(self) -> dict[str, float | int | None]:
        """Mean over all images, median and 95 % quantile of the latest; null without an image."""
        found: dict[str, float | int | None] = {"images": self.images}
        latest = list(self._latest)
        high = quantiles(latest, n=20)[-1] if len(latest) > 1 else max(latest, default=0.0)
        values = {
            "mean_ms": self.seconds / max(self.images, 1),
            "median_ms": median(latest) if latest else 0.0,
            "p95_ms": high,
        }
        for name, value in values.items():
            found[name] = round(1000 * value, 3) if latest else None
        return found

    def __str__(self) -> str:
        values = self.to_json()
        if not self.images:
            return "no image"
        return f"{values['median_ms']:.0f} ms an image (95 %: {values['p95_ms']:.0f} ms)"


class OnlineSession:
    """Images one after another: each is predicted, and then the network adapts to it.

    Args:
        checkpoint: the network that adapts, on its device; it is changed in place.
        usage: the head that predicts, and what batch norms normalise with at first.
        stored: the statistics, with ``domain`` and ``pooled``.
        section: describes the method.

    Attributes:
        method: that adapts.
        latency: of the images so far.
        before_image: called before each image; it may raise, and nothing is lost.

    Raises:
        RecipeError: the method does not suit the network.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        usage: Usage,
        stored: Statistics | None,
        section: OnlineConfig,
    ) -> None:
        self.section = section
        self.classes = class_set_of(checkpoint.classes)
        self.head = usage.head
        self.domain = None
        self.image_size = checkpoint.image_size
        self.channels = Channels(checkpoint.network.channels, checkpoint.pixel_range)
        self.latency = Latency()
        self._has_told = False
        self.before_image: Callable[[], None] = lambda: None
        self._checkpoint = checkpoint
        network = checkpoint.network.requires_grad_(False)
        context = OnlineContext.of(network, usage.head, usage.statistics, stored)
        self.method: Online = section.build(context)

    @property
    def statistics(self) -> str:
        """What batch norms of the adapted network are used with."""
        return self.method.statistics

    @property
    def resets(self) -> int:
        """How often the network was reset since it had collapsed."""
        return int(getattr(self.method, "resets", 0))

    def adapt(
        self,
        image: Pixels,
        *,
        size: Size | None = None,
        sides: tuple[int, int] | None = None,
        probabilities: bool = False,
    ) -> Prediction:
        """Predict an image, and adapt to it.

        Args:
            image: uint8 RGB [H, W, 3].
            size: width and height at which the network sees it; None: as in training.
            sides: height and width of the prediction; None: the image's.
            probabilities: give them too.
        """
        self.before_image()
        start = time.perf_counter()
        sides = sides or (image.shape[0], image.shape[1])
        inference = self.method.inference
        resized = resize_image(image, self._size_of(image, size or self.image_size))
        shown = images_tensor([resized], inference.device)
        logits = self.method.observe(shown)
        aligned = inference.align_corners
        softmax = None
        if probabilities:
            softmax = upsample(logits, sides, align_corners=aligned)[0].softmax(0).cpu().numpy()
        ids = classes_at(logits, sides, align_corners=aligned)[0].cpu().numpy()
        self.latency.add(time.perf_counter() - start)
        return Prediction(image, ids, self.classes, softmax)

    def _size_of(self, image: Pixels, asked: Size) -> Size:
        """Width and height at which an image is shown, so that nothing of it is padding.

        What is padded is no image to adapt to. A network whose training images were padded to
        multiples is shown such images, as it knows them: its batch norms count the padding.
        """
        own = self._checkpoint
        whole = whole_image((image.shape[1], image.shape[0]), asked, own.fit)
        multiple = own.network.backbone.multiple
        if nearest_multiples(self.image_size, multiple) != self.image_size:
            return whole
        found = nearest_multiples(whole, multiple)
        if found != whole and own.fit == "stretch" and not self._has_told:
            self._has_told = True
            self.method.remark(
                f"images are shown at {found[0]}x{found[1]}, not at {whole[0]}x{whole[1]}, since"
                f" the network pads sides to multiples of {multiple}"
            )
        return found

    def reset(self) -> None:
        """Bring the network back to where it began."""
        self.method.reset()

    def adapted(self) -> Inference:
        """The network as its file will be used; it goes on adapting with the session."""
        network = self._checkpoint.network
        taught = self.method.teacher()
        if taught is not None:
            network = deepcopy(network).requires_grad_(False)
            for name, weight in network.named_parameters():
                if name in taught:
                    weight.data = taught[name]
        return Inference(network, self.head, self.statistics)

    def settle(self) -> None:
        """Give the network the weights that `adapted` answers with, a mean teacher's."""
        taught = self.method.teacher()
        if taught is not None:
            _take(self._checkpoint.network, taught)

    def checkpoint(self) -> Checkpoint:
        """The adapted network, with what is needed to use it.

        Where weights have moved, it has no statistics of domains: they were measured before.
        """
        own = self._checkpoint
        statistics = self.statistics if self.statistics != "none" else own.default_statistics
        taught = self.method.teacher()
        teacher = None
        if taught is not None:
            teacher = WeightAverage.of(own.network, updates=self.latency.images)
            _take(teacher.network, taught)
        return replace(
            own,
            statistics={} if self.method.moves_weights else own.statistics,
            average=None,
            teacher=teacher,
            default_statistics=statistics,
            default_weights="model" if teacher is None else "teacher",
        )

    # --- as `predict_files` uses it ---------------------------------------------------------------

    def check(self, view: View, *, probabilities: bool) -> int:
        """Refuse views that would show the network an image more than once.

        Returns:
            Pixels of the smallest side that an image may have.

        Raises:
            RecipeError: windows, mirror images or scales are asked for.
        """
        if view.window or view.flip or list(view.scales) != [1.0]:
            raise RecipeError(
                "online: the network adapts to whole images, each seen once; leave windows, mirror"
                " images and scales out"
            )
        return 1

    def predict_many(
        self, images: Sequence[Pixels], view: View, *, probabilities: bool = False
    ) -> list[Prediction]:
        """`adapt` for several images, one after another."""
        options: dict[str, Any] = {"size": view.size, "probabilities": probabilities}
        return [self.adapt(image, **options) for image in images]


@torch.no_grad()
def _take(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights to parameters of the same names."""
    parameters = dict(network.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value)


def whole_image(given: Size, size: Size, fit: Fit) -> Size:
    """Width and height at which an image is shown, without the padding of a padded network.

    Args:
        given: width and height of the image.
        size: those to which a network's images are stretched, or padded.
        fit: which of the two.
    """
    _, _, right, lower = shown_window(given, size, fit)
    return round(size[0] / right), round(size[1] / lower)


def nearest_multiples(size: Size, multiple: int) -> Size:
    """The width and height nearest to a size whose sides are multiples, halves rounded up."""
    width, height = (max(1, (side + multiple // 2) // multiple) * multiple for side in size)
    return width, height
