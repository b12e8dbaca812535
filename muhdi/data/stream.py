"""Endless batches, in an order that depends only on the seed and the position.

Every random choice about a sample is drawn from a generator that is seeded with (seed, stream,
number of the draw). So the state of a loader is one integer, resuming is exact, and the number of
worker processes changes nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from muhdi import distributed
from muhdi.data.arrays import images_tensor, labels_tensor
from muhdi.data.augment import Wanted, augment
from muhdi.data.prepared import PreparedSet
from muhdi.data.rare_classes import RareClasses
from muhdi.data.sets import Sample, Unlisted
from muhdi.data.workers import end_with_process
from muhdi.errors import STOP_SIGNALS, MuhdiError, RunError
from muhdi.recipe.augment import AugmentConfig


@dataclass(frozen=True)
class Draw:
    """What a sample is made of.

    Attributes:
        number: of the draw.
        index: of the image.
        wanted: what its crop should show; None: nothing in particular.
    """

    number: int
    index: int
    wanted: Wanted | None = None


@dataclass(frozen=True)
class LoadedBatch:
    """Samples as tensors.

    Attributes:
        images: uint8 RGB [N, 3, H, W].
        labels: int64 [N, H, W]; None if a sample has none.
        names: of the samples, N of them.
        unlisted: pixels by raw id, of the samples that have ids which the label table does not
            list; by the samples' names.
        windows: float [N, 4], which part of its whole image each shows, see `Window`.
    """

    images: Tensor
    labels: Tensor | None
    names: list[str]
    unlisted: dict[str, Unlisted]
    windows: Tensor

    def to(self, device: torch.device) -> LoadedBatch:
        """The same batch on another device."""
        images = self.images.to(device, non_blocking=True)
        labels = self.labels
        if labels is not None:
            labels = labels.to(device, non_blocking=True)
        windows = self.windows.to(device, non_blocking=True)
        return LoadedBatch(images, labels, self.names, self.unlisted, windows)


def collate(samples: Sequence[Sample]) -> LoadedBatch:
    """A batch of samples of one size."""
    images = images_tensor([sample.image for sample in samples])
    arrays = [sample.label for sample in samples if sample.label is not None]
    labels = None
    if len(arrays) == len(samples):
        labels = labels_tensor(arrays)
    names = [sample.name for sample in samples]
    unlisted = {sample.name: sample.unlisted for sample in samples if sample.unlisted}
    windows = torch.tensor([sample.window for sample in samples])
    return LoadedBatch(images, labels, names, unlisted, windows)


class EndlessSampler:
    """Batches of draws: every image once per epoch, each epoch in a new order.

    Several processes share each batch in order: together they draw what one process would.

    Args:
        count: number of images.
        batch_size: draws per batch; a batch may reach over the end of an epoch.
        seed: any integers >= 0.
        start: number of the first batch.
    """

    def __init__(self, count: int, batch_size: int, seed: tuple[int, ...], start: int = 0) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = -1
        order = np.empty(0, int)
        draw = self.start * self.batch_size
        while True:
            batch = []
            for number in range(draw, draw + self.batch_size):
                if number // self.count != epoch:
                    epoch = number // self.count
                    # Stream 0 orders the epochs, 1 augments, 2 draws for classes: none disturbs
                    # another.
                    order = np.random.default_rng([*self.seed, 0, epoch]).permutation(self.count)
                batch.append(Draw(number, int(order[number % self.count])))
            draw += self.batch_size
            yield list(distributed.local_slice(batch))


class RareClassSampler:
    """Batches of draws for classes, each independent of all others.

    Several processes share each batch in order, as in `EndlessSampler`.

    Args:
        rare: what is drawn from, and how.
        batch_size: draws per batch.
        seed: any integers >= 0.
        start: number of the first batch.
    """

    def __init__(
        self, rare: RareClasses, batch_size: int, seed: tuple[int, ...], start: int = 0
    ) -> None:
        self.rare = rare
        self.batch_size = batch_size
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[list[Draw]]:
        draw = self.start * self.batch_size
        while True:
            numbers = range(draw, draw + self.batch_size)
            draw += self.batch_size
            yield [self._draw(number) for number in distributed.local_slice(numbers)]

    def _draw(self, number: int) -> Draw:
        label, index = self.rare.draw(np.random.default_rng([*self.seed, 2, number]))
        return Draw(number, index, self.rare.wanted(label))


def endless_batches(
    samples: PreparedSet | RareClasses,
    batch_size: int,
    augmentation: AugmentConfig,
    seed: tuple[int, ...],
    start: int = 0,
    workers: int = 0,
) -> Generator[LoadedBatch]:
    """Training batches from number ``start`` on, without end.

    Args:
        samples: what to draw from, each once per epoch, or for classes; all images have one size.
        batch_size: images per batch of all processes together.
        augmentation: random changes of each sample.
        seed: any integers >= 0: of order and augmentation.
        start: number of the first batch.
        workers: processes that load ahead, at most one per core; they change the speed and nothing
            else.

    Raises:
        DataError: an image or its label cannot be read.
        RunError: a loading process was killed.
    """
    draws: Iterable[list[Draw]]
    if isinstance(samples, RareClasses):
        draws = RareClassSampler(samples, batch_size, seed, start)
        samples = samples.samples
    else:
        draws = EndlessSampler(len(samples), batch_size, seed, start)
    return _loaded(_Augmented(samples, augmentation, seed), draws, workers)


def _loaded(
    samples: _Augmented, draws: Iterable[list[Draw]], workers: int
) -> Generator[LoadedBatch]:
    """The batches of some draws, as loading processes deliver them."""
    loader = DataLoader(
        samples,
        batch_sampler=draws,  # has no length
        num_workers=min(workers, os.cpu_count() or 1),
        collate_fn=_collate_or_fail,
        worker_init_fn=partial(_leave_signals_to_the_main_process, os.getpid()),
        pin_memory=torch.cuda.is_available(),
        # Of its own: it would draw from PyTorch's global generator, which drops parts of networks,
        # and so move it in a run that is resumed.
        generator=torch.Generator(),
    )
    batches = iter(loader)
    try:
        while True:
            with _ended_as_one_line(workers):
                batch = next(batches)
            if isinstance(batch, MuhdiError):
                raise batch
            yield batch
    except RunError:
        _abandon(batches)
        raise
    finally:
        # Ends the loading processes now: a traceback may keep this frame, and Python would wait for
        # them when it exits.
        del batches


def _abandon(batches: Any) -> None:
    """End the loading processes at once, since one of them was killed.

    PyTorch's own way would wait for a lock that the killed process may have held, for good.
    """
    batches._shutdown = True
    for process in getattr(batches, "_workers", ()):
        process.kill()
    for queue in getattr(batches, "_index_queues", ()):
        queue.cancel_join_thread()


class _Augmented(Dataset["Sample | MuhdiError"]):
    """Samples by draw: what a loading process computes."""

    def __init__(self, samples: PreparedSet, config: AugmentConfig, seed: tuple[int, ...]) -> None:
        self.samples = samples
        self.config = config
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Sample | MuhdiError:
        rng = np.random.default_rng([*self.seed, 1, draw.number])
        try:
            return augment(self.samples[draw.index], self.config, rng, draw.wanted)
        except MuhdiError as error:
            # Raised in the main process: a worker would wrap it in its own traceback.
            return error


def _collate_or_fail(samples: list[Sample | MuhdiError]) -> LoadedBatch | MuhdiError:
    """A batch, or the first fault among its samples.

    At module level, so that it can be sent to processes that do not begin as a copy of this one.
    """
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, MuhdiError):
            return sample
        good.append(sample)
    return collate(good)


@contextmanager
def _ended_as_one_line(workers: int) -> Iterator[None]:
    """Turn the end of a loading process into one line.

    Not a function around ``next``: its frame would keep the loader alive in the error's traceback.
    """
    try:
        yield
    except RuntimeError as error:
        ended = worker_ended(error)
        if ended is None:
            raise
        raise ended from None
    except (OSError, EOFError):
        # A process that was killed while it handed over a batch: the rest cannot be fetched.
        if not workers:
            raise
        _await_the_signal_of_its_end()
        raise RunError(_ENDED) from None


def _await_the_signal_of_its_end() -> None:
    """Let PyTorch's handler of SIGCHLD raise here, instead of in whoever handles our error."""
    try:
        time.sleep(_SIGNAL_S)  # the handler interrupts it
    except RuntimeError as error:
        if worker_ended(error) is None:
            raise


_SIGNAL_S = 1.0
"""Seconds after which a signal of the end of a process has surely come."""
_ENDED = (
    "runtime.workers: a data-loading worker was killed, possibly out of memory; continue with"
    " --resume and fewer runtime.workers, or less runtime.memory_mb"
)


def worker_ended(error: Exception) -> MuhdiError | None:
    """What to tell the user if an error says that a loading process is gone; otherwise None.

    PyTorch raises it from a signal handler, so it may come from any line of the program.
    """
    if not (isinstance(error, RuntimeError) and "DataLoader worker" in str(error)):
        return None
    return RunError(_ENDED)


def _leave_signals_to_the_main_process(main: int, worker: int) -> None:
    """Ignore Ctrl-C and a cluster's SIGTERM, which reach every process.

    The main one saves, and then ends the others.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_process(main)
