"""Batches without end, in an order that depends on the seed and the position alone.

Every random choice about a sample is drawn from a generator that is seeded with (seed, stream,
number of the draw). So the state of a loader is one integer, resuming is exact, and the number of
worker processes changes nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from muhdi import distributed
from muhdi.data.prepared import PreparedSet
from muhdi.data.sets import Sample, Unlisted
from muhdi.data.workers import end_with_process
from muhdi.errors import STOP_SIGNALS, MuhdiError
from muhdi.recipe.domains import AugmentConfig

Draw = tuple[int, int]
"""Number of the draw, and index of the image."""


@dataclass(frozen=True)
class LoadedBatch:
    """Images uint8 [N, 3, H, W]; labels int64 [N, H, W] or None.

    The samples' names and unlisted raw ids.
    """

    images: Tensor
    labels: Tensor | None
    names: list[str]
    unlisted: dict[str, Unlisted]

    def to(self, device: torch.device) -> LoadedBatch:
        """The same batch on another device."""
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return LoadedBatch(
            self.images.to(device, non_blocking=True), labels, self.names, self.unlisted
        )


def collate(samples: Sequence[Sample]) -> LoadedBatch:
    """Samples of one size -> a batch."""
    images = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2).contiguous()
    labels = None
    if all(s.label is not None for s in samples):
        labels = torch.from_numpy(
            np.stack([s.label for s in samples if s.label is not None])
        ).long()
    return LoadedBatch(
        images,
        labels,
        [s.name for s in samples],
        {s.name: s.unlisted for s in samples if s.unlisted},
    )


class EndlessSampler:
    """Batches of draws: every image once per epoch, in an order of its own in each.

    Several processes share each batch in order: together they draw what one process would.

    Args:
        count: number of images.
        batch_size: draws per batch; a batch may reach over the end of an epoch.
        seed: any integers >= 0.
        start: number of the first batch.
    """

    def __init__(self, count: int, batch_size: int, seed: tuple[int, ...], start: int = 0) -> None:
        self.count, self.batch_size, self.seed, self.start = count, batch_size, seed, start

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = -1, np.empty(0, int)
        draw = self.start * self.batch_size
        while True:
            batch = []
            for number in range(draw, draw + self.batch_size):
                if number // self.count != epoch:
                    epoch = number // self.count
                    order = np.random.default_rng([*self.seed, 0, epoch]).permutation(self.count)
                batch.append((number, int(order[number % self.count])))
            draw += self.batch_size
            yield list(distributed.local_slice(batch))


class _Augmented(Dataset["Sample | MuhdiError"]):
    def __init__(self, samples: PreparedSet, augment: AugmentConfig, seed: tuple[int, ...]) -> None:
        self.samples, self.augment, self.seed = samples, augment, seed

    def __getitem__(self, draw: Draw) -> Sample | MuhdiError:
        number, index = draw
        try:
            return augment(
                self.samples[index], self.augment, np.random.default_rng([*self.seed, 1, number])
            )
        except MuhdiError as error:
            return error  # raised in the main process: a worker would wrap it in its own traceback


def augment(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Random crop, mirroring and colour changes; ``rng`` decides. The size stays."""
    image, label = sample.image, sample.label
    height, width = image.shape[:2]
    if config.crop < 1:
        part = rng.uniform(config.crop, 1.0)
        w, h = part * width, part * height
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        box = (x, y, x + w, y + h)
        image = np.asarray(
            Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
        )
        if label is not None:
            label = np.asarray(
                Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST, box=box)
            )
    if config.flip and rng.random() < 0.5:
        image = image[:, ::-1]
        label = None if label is None else label[:, ::-1]
    if config.colour:
        brightness, contrast, saturation = 1 + config.colour * rng.uniform(-1, 1, 3)
        pixels = image.astype(np.float32) * np.float32(brightness)
        mean = pixels.mean()
        pixels = mean + (pixels - mean) * np.float32(contrast)
        grey = pixels.mean(2, keepdims=True)
        image = np.clip(grey + (pixels - grey) * np.float32(saturation), 0, 255).astype(np.uint8)
    return Sample(sample.name, image, label, sample.unlisted)


def _collate_or_fail(samples: list[Sample | MuhdiError]) -> LoadedBatch | MuhdiError:
    """A batch, or the first fault among its samples; at module level, so that it can be sent."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, MuhdiError):
            return sample
        good.append(sample)
    return collate(good)


def endless_batches(
    samples: PreparedSet,
    batch_size: int,
    augmentation: AugmentConfig,
    seed: tuple[int, ...],
    start: int = 0,
    workers: int = 0,
) -> Generator[LoadedBatch]:
    """Training batches from number ``start`` on, without end.

    Args:
        samples: what to draw from; all images have one size.
        batch_size: images per batch of all processes together.
        seed: any integers >= 0: of order and augmentation.
        workers: processes that load ahead, at most one per core; they change the speed and nothing
            else.
    """

    sampler = EndlessSampler(len(samples), batch_size, seed, start)
    loader = DataLoader(
        _Augmented(samples, augmentation, seed),
        batch_sampler=sampler,  # endless, so without a length
        num_workers=min(workers, os.cpu_count() or 1),
        collate_fn=_collate_or_fail,
        worker_init_fn=partial(_leave_signals_to_the_main_process, os.getpid()),
        pin_memory=torch.cuda.is_available(),
    )
    batches = iter(loader)
    try:
        while True:
            try:
                batch = next(batches)
            except RuntimeError as error:
                if (ended := worker_ended(error)) is None:
                    raise
                raise ended from None
            except (OSError, EOFError):  # what it had begun to hand over cannot be fetched any more
                if not workers:
                    raise
                raise MuhdiError(_ENDED) from None
            if isinstance(batch, MuhdiError):
                raise batch
            yield batch
    finally:
        # Ends the loading processes now: a traceback may keep this frame, and Python would wait for
        # them at its exit.
        del batches


_ENDED = (
    "runtime.workers: a process that loads images was ended from outside, perhaps for want of"
    " memory; go on with --resume and fewer runtime.workers, or less runtime.memory_mb"
)


def worker_ended(error: Exception) -> MuhdiError | None:
    """What to tell the user if an error says that a loading process is gone.

    PyTorch raises it wherever it may be.
    """
    if not (isinstance(error, RuntimeError) and "DataLoader worker" in str(error)):
        return None
    return MuhdiError(_ENDED)


def _leave_signals_to_the_main_process(main: int, worker: int) -> None:
    """A terminal's Ctrl-C and a cluster's SIGTERM reach every process.

    The main one saves, and then ends the others.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_process(main)
