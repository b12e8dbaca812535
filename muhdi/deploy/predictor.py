"""A trained network that takes images of any size and gives the class of every pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muhdi.data.arrays import images_tensor
from muhdi.data.channels import Channels
from muhdi.data.resize import padded_size, resize_image
from muhdi.data.sets import Fit, Size
from muhdi.deploy.card import NO_LICENCE, CardNotes, Usage
from muhdi.deploy.find import device_of, exported_config, network_file, run_of
from muhdi.deploy.folder import check_folder, write_card, write_network
from muhdi.deploy.hub import downloaded, push_to_hub
from muhdi.deploy.online import OnlineSession
from muhdi.deploy.prediction import AnyImage, Pixels, Prediction, as_pixels
from muhdi.deploy.view import View
from muhdi.errors import DataError, MuhdiError, RecipeError, check_type, nearest
from muhdi.evaluation.views import classes_of, probabilities_of
from muhdi.losses import upsample
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.inference import Inference, check_head, check_statistics
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.statistics import Statistics, pool_statistics
from muhdi.recipe.evaluation import SMALLEST
from muhdi.recipe.online import USUAL, OnlineConfig, read_online
from muhdi.taxonomy import class_set_of


class Predictor(nn.Module):
    """A trained network with a choice of head and normalisation statistics.

    As a module it takes uint8 RGB images [N, 3, H, W], with more channels if it was trained so, and
    gives logits [N, C, H, W]; `predict` takes an image.

    Args:
        checkpoint: the network; it is changed in place.
        head: whose predictions are given.
        statistics: one of `muhdi.models.statistics.CHOICES`; None: what the network's file names.
        domain: whose statistics, with ``domain``.
        weights: ``model``, ``ema`` for their average or ``teacher`` for the mean teacher's; None:
            what the network's file names.

    Raises:
        MuhdiError: there is no such head, choice of statistics or domain, or no average.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        head: str = AGNOSTIC,
        statistics: str | None = None,
        domain: str | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        used = checkpoint.using(weights)
        self.weights = weights or checkpoint.default_weights
        network = used.network.requires_grad_(False)
        if statistics is None:
            statistics = "domain" if domain is not None else _default(checkpoint)
        check_head(network, head)
        self.used = used
        self.stored_statistics = _stored_statistics(used, statistics, domain)
        self.inference = Inference(network, head, statistics, self.stored_statistics)
        self.head = head
        self.statistics = statistics
        self.domain = domain
        self.checkpoint = checkpoint
        self.run: Path | None = None
        """Directory of the run that the network lies in, where it was loaded from one."""
        self.online: OnlineSession | None = None
        """How the network adapts while it predicts; None before `adapt_by` or `adapt`."""
        self.backbone = checkpoint.backbone.key
        self.classes = class_set_of(checkpoint.classes)
        self.image_size = checkpoint.image_size
        self.fit = checkpoint.fit
        self.channels = Channels(checkpoint.network.channels, checkpoint.pixel_range)
        """Of the images that it takes."""
        self.eval()

    @classmethod
    def load(  # noqa: PLR0913 - options by name
        cls,
        path: Path | str,
        *,
        head: str | None = None,
        statistics: str | None = None,
        domain: str | None = None,
        weights: str | None = None,
        device: str = "auto",
        trust_code: bool = False,
    ) -> Predictor:
        """A trained network, ready for images.

        ``Predictor.load(run).predict("street.jpg").overlay().show()``

        Args:
            path: a run directory (its newest network), a network file (``.safetensors``), or an
                exported folder.
            head: whose predictions are wanted; None: what an exported folder says, or else the
                agnostic head's.
            statistics: ``running``, ``image``, ``blend``, ``pooled`` or ``domain``; None: what an
                exported folder says, or else the network's file, and ``domain`` where one is named.
            domain: whose stored statistics are used.
            weights: ``model``, ``ema`` or ``teacher``; None: what an exported folder says, or
                else the network's file.
            device: ``cpu``, ``cuda``, ``cuda:1``; ``auto``: a GPU where there is one.
            trust_code: whether a backbone of another package is imported.

        Raises:
            MuhdiError: there is no network, or it has no such head or statistics.
        """
        check_type("path", path, str, Path)
        check_type("device", device, str)
        choices = {"head": head, "statistics": statistics, "domain": domain, "weights": weights}
        for name, choice in choices.items():
            check_type(name, choice, str, type(None))
        file = network_file(path)
        config = exported_config(Path(path)) if Path(path).is_dir() else {}
        if statistics is None and domain is None:
            statistics = config.get("statistics")
            domain = config.get("domain")
        predictor = cls(
            load_checkpoint(file, trust_code=trust_code),
            head=head or config.get("head") or AGNOSTIC,
            statistics=statistics,
            domain=domain,
            weights=weights or config.get("weights"),
        )
        predictor.run = run_of(path)
        return predictor.to(device_of(device))

    @classmethod
    def from_pretrained(cls, name: Path | str, **options: Any) -> Predictor:
        """`load` of a folder, or else of a repository on the Hugging Face hub."""
        return cls.load(downloaded(name), **options)

    @property
    def usage(self) -> Usage:
        """What is asked of the network."""
        return Usage(self.head, self.statistics, self.domain, self.weights)

    def save_pretrained(
        self, folder: Path | str, *, licence: str = NO_LICENCE, overwrite: bool = False
    ) -> Path:
        """Write the network as `muhdi export` writes a folder, for `from_pretrained`.

        It is not verified, and has no picture; its model card has the scores of the run that it was
        loaded from.

        Args:
            folder: where; it is made.
            licence: of the weights, as the hub calls it, such as ``apache-2.0``.
            overwrite: replace a folder of a network.

        Raises:
            MuhdiError: the folder holds something, or cannot be written.
        """
        folder = Path(folder)
        check_folder(folder, overwrite=overwrite)
        checkpoint = self.checkpoint
        usage = self.usage
        if self.online is not None:
            checkpoint = self.online.checkpoint()
            usage = replace(usage, weights=checkpoint.default_weights)
        write_network(folder, checkpoint, usage)
        write_card(folder, checkpoint, usage, CardNotes(self.run, licence))
        return folder

    def push_to_hub(
        self, repository: str, *, licence: str = NO_LICENCE, private: bool = False
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face hub.

        Returns:
            The address of what was uploaded.

        Raises:
            MuhdiError: huggingface-hub is missing, or the repository cannot be written.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, licence=licence)
            return push_to_hub(folder, repository, private=private)

    def __repr__(self) -> str:
        chosen = self.domain or self.statistics
        weights = f", weights={self.weights!r}" if self.weights != "model" else ""
        return (
            f"Predictor({self.backbone}, {len(self.classes)} classes, head={self.head!r}, "
            f"statistics={chosen!r}{weights})"
        )

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 RGB [N, 3, H, W] -> logits [N, C, H, W] at their size.

        Raises:
            DataError: the images are of another kind, such as floats of 0 to 1.
        """
        count = self.channels.count
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != count:
            raise DataError(
                f"images: must be uint8 RGB of 0 to 255, [N, {count}, H, W], but are"
                f" {images.dtype} of shape {tuple(images.shape)}"
            )
        size = (images.shape[-2], images.shape[-1])
        return upsample(self.inference(images), size, align_corners=self.inference.align_corners)

    def predict(
        self,
        image: AnyImage,
        view: View = View(),  # noqa: B008 - it never changes
        *,
        probabilities: bool = False,
    ) -> Prediction:
        """The class of every pixel of one image of any size.

        Args:
            image: a file, a PIL image, or uint8 RGB [H, W, 3]; files, or [H, W, C], where the
                network takes more `channels`.
            view: how the network is shown it.
            probabilities: give them too.

        Raises:
            MuhdiError: the file cannot be read, or the array is something else.
        """
        pixels = as_pixels(image, self.channels)
        return self.predict_many([pixels], view, probabilities=probabilities)[0]

    def adapt_by(self, method: str | OnlineConfig = USUAL, **options: Any) -> OnlineSession:
        """Choose how `adapt` adapts; it begins with the network that `predict` uses now.

        Args:
            method: ``bn``, ``tent``, ``cotta``, ``sar``, ``none``, or ``package.module:Name``.
            options: of the method, ``learning_rate=1e-4`` for example.

        Returns:
            The session, which also says how long images take, and what was reset.

        Raises:
            RecipeError: there is no such method, an option is wrong, or the method does not suit
                the network.
        """
        check_type("method", method, str, OnlineConfig)
        section = read_online(method, options)
        if self.online is not None:
            self.online.settle()
        # Moving a module to a device makes buffers that the network does not share.
        self.used.network.to(self.inference.device)
        self.online = OnlineSession(self.used, self.usage, self.stored_statistics, section)
        self.statistics = self.online.statistics
        self.stored_statistics = None
        self.domain = None
        self.inference = self.online.adapted()
        return self.online

    def adapt(
        self,
        image: AnyImage,
        *,
        size: Size | None = None,
        probabilities: bool = False,
    ) -> Prediction:
        """Predict one image of any size, and then adapt to it, by ``bn`` unless `adapt_by` chose.

        From then on `predict` uses the adapted weights and statistics, too.

        Args:
            image: a file, a PIL image, or uint8 RGB [H, W, 3]; files, or [H, W, C], where the
                network takes more `channels`.
            size: width and height at which the network sees it; None: as in training.
            probabilities: give them too.

        Raises:
            MuhdiError: the file cannot be read, or the array is something else.
        """
        session = self.online or self.adapt_by()
        pixels = as_pixels(image, self.channels)
        return session.adapt(pixels, size=size, probabilities=probabilities)

    def save_adapted(self, path: Path | str) -> None:
        """Write the adapted network to a file, ``.safetensors``, that every command takes.

        Raises:
            RecipeError: nothing has adapted.
            MuhdiError: the file cannot be written.
        """
        if self.online is None:
            raise RecipeError("save_adapted: nothing has adapted yet; call adapt first")
        save_checkpoint(Path(path), self.online.checkpoint())

    def check(self, view: View, *, probabilities: bool) -> int:
        """Refuse, before anything is written, what the network cannot do.

        Args:
            view: how the network is to be shown images.
            probabilities: whether they are wanted, too.

        Returns:
            Pixels of the smallest side that an image may have.

        Raises:
            RecipeError: a scale makes the images that the network sees too small.
        """
        smallest = view.views(self.image_size).smallest
        size = self._shown_size(view)
        if size is None:
            return max(SMALLEST, smallest)
        if min(size) < smallest:
            raise RecipeError(
                f"scales: {min(view.scales):g} makes images of {size[0]}x{size[1]} smaller than"
                f" {SMALLEST} pixels a side; leave it out"
            )
        return 1

    @torch.no_grad()
    def predict_many(
        self,
        images: Sequence[Pixels],
        view: View = View(),  # noqa: B008 - it never changes
        *,
        probabilities: bool = False,
    ) -> list[Prediction]:
        """`predict` for several images, uint8 RGB [H, W, 3] of any sizes, in batches.

        Raises:
            MuhdiError: an array is something else, or too small for windows or for a scale.
        """
        check_type("view", view, View)
        for image in images:
            check_type("images", image, np.ndarray)
            as_pixels(image, self.channels)
        smallest = self.check(view, probabilities=probabilities)
        for image in images:
            if min(image.shape[:2]) < smallest:
                raise MuhdiError(
                    f"the image is {image.shape[1]}x{image.shape[0]}; windows and scales need at"
                    f" least {smallest} pixels a side"
                )
        found: list[Prediction] = []
        for batch in self._batches(images, view):
            found += self._predict(batch, view, probabilities)
        return found

    def _batches(self, images: Sequence[Pixels], view: View) -> Iterator[list[Pixels]]:
        """Images that the network is shown at one size."""
        for start in range(0, len(images), view.batch_size):
            batch = list(images[start : start + view.batch_size])
            if self._shown_size(view) is not None:
                yield batch
                continue
            for _, same_size in groupby(batch, key=np.shape):
                yield list(same_size)

    def _shown_size(self, view: View) -> Size | None:
        """Width and height to which images are resized; None: they keep their own."""
        if view.window:
            return view.size
        return view.size or self.image_size

    def _predict(
        self, batch: Sequence[Pixels], view: View, probabilities: bool
    ) -> Iterator[Prediction]:
        """What the network makes of images that it is shown at one size, as the evaluation does it.

        Windows are laid over stretched images, never over padded ones.
        """
        fit: Fit = "stretch" if view.window else self.fit
        size = self._shown_size(view)
        shown = batch if size is None else [resize_image(image, size, fit) for image in batch]
        sides = []
        for image in batch:
            own = (image.shape[1], image.shape[0])
            if size is not None and fit == "pad":
                own = padded_size(own, size)
            sides.append((own[1], own[0]))
        tensor = images_tensor(shown, self.inference.device)
        views = view.views(self.image_size)
        if not probabilities:
            classes = classes_of(self.inference, tensor, sides, views)
            for image, found in zip(batch, classes, strict=True):
                ids = found[: image.shape[0], : image.shape[1]]
                yield Prediction(image, ids.cpu().numpy(), self.classes)
            return
        each = probabilities_of(self.inference, tensor, sides, views)
        for image, whole in zip(batch, each, strict=True):
            softmax = whole[:, : image.shape[0], : image.shape[1]]
            ids = softmax.argmax(0).byte()
            yield Prediction(image, ids.cpu().numpy(), self.classes, softmax.cpu().numpy())


def _default(checkpoint: Checkpoint) -> str:
    """The statistics that a network's file names, if it has any."""
    choices = checkpoint.network.statistics_choices
    return checkpoint.default_statistics if choices != ("none",) else "none"


def _stored_statistics(
    checkpoint: Checkpoint, statistics: str, domain: str | None
) -> Statistics | None:
    """The statistics of the domain that is asked for, or of all; None with another choice."""
    check_statistics(checkpoint.network, statistics)
    domains = list(checkpoint.statistics)
    known = ", ".join(domains) or "none"
    if (domain is not None) != (statistics == "domain"):
        raise RecipeError(
            "statistics: 'domain' needs a domain's name, the other choices none; the network holds "
            f"those of {known}"
        )
    if statistics == "pooled" and not domains:
        raise RecipeError(
            "statistics pooled: the network holds those of no domain; use running or blend"
        )
    if statistics == "pooled":
        return pool_statistics(checkpoint.statistics.values())
    if domain is None:
        return None
    if domain not in domains:
        raise RecipeError(
            f"domain {domain}: the network holds no statistics of it{nearest(domain, domains)} "
            f"(stored: {known}); use --statistics image or running"
        )
    return checkpoint.statistics[domain]


def load(path: Path | str, **options: Any) -> Predictor:
    """`Predictor.load` as version 0.1 called it."""
    return Predictor.load(path, **options)
