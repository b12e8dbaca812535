"""The tester of data sets: what every one of them must stand, whoever has written it."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np

from muhdi.data.cache import SampleCache
from muhdi.data.catalog import DataContext, open_split
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import ImageSet, Sample
from muhdi.data.stream import LoadedBatch, endless_batches
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.domains import DomainConfig
from muhdi.taxonomy import IGNORE

SIZE = (24, 16)
AUGMENT = AugmentConfig(crop=0.5, flip=True, colour=0.4)
SPLITS = ("train", "val")


class DatasetTester:
    """Runs a data set through all that a run does with it.

    Args:
        section: of a recipe.
        context: the parts of the recipe that it may need.
        folder: an empty one, for a cache.
    """

    def __init__(self, section: DomainConfig, context: DataContext, folder: Path) -> None:
        self.section = section
        self.context = context
        self.folder = folder

    def run_all(self) -> None:
        """Every check."""
        self.samples_are_what_they_should_be()
        self.labels_stay_closed_unless_asked_for()
        self.opened_twice_it_is_the_same()
        self.it_can_be_sent_to_another_process()
        self.prepared_remembered_and_cached_samples_are_equal()
        self.batches_depend_on_seed_and_position_alone()

    def open(self, split: str, *, labels: bool = True) -> ImageSet:
        return open_split(self.section, split, self.context, labels=labels)

    def samples_are_what_they_should_be(self) -> None:
        for split in SPLITS:
            images = self.open(split)
            assert images.domain == self.section.domain_name
            assert images.labelled, "give the tester a data set with labels"
            assert images.fit in ("stretch", "pad")
            names = [images.name(index) for index in range(len(images))]
            assert names, split
            assert len(set(names)) == len(names), "names tell images apart in messages"
            for index, name in enumerate(names):
                sample = images.read(index, True)
                assert sample.name == name
                assert np.array_equal(images.read_label(index), sample.label)
                self._check(sample)

    def _check(self, sample: Sample) -> None:
        assert sample.image.dtype == sample.label.dtype == np.uint8
        height, width, channels = sample.image.shape
        assert channels == 3
        assert sample.label.shape[0] * width == sample.label.shape[1] * height, "one aspect ratio"
        known = {*range(len(self.context.classes)), IGNORE}
        assert set(np.unique(sample.label).tolist()) <= known
        for raw, pixels in sample.unlisted.items():
            assert isinstance(raw, str)
            assert 0 < pixels <= (sample.label == IGNORE).sum()

    def labels_stay_closed_unless_asked_for(self) -> None:
        for split in SPLITS:
            labelled = self.open(split)
            unlabelled = self.open(split, labels=False)
            assert len(unlabelled) == len(labelled)
            for images in (labelled, unlabelled):
                sample = images.read(0, False)
                assert sample.label is None
                assert sample.unlisted == {}
                assert np.array_equal(sample.image, labelled.read(0, True).image)

    def opened_twice_it_is_the_same(self) -> None:
        for split in SPLITS:
            first = self.open(split)
            second = self.open(split)
            assert isinstance(first.fingerprint(), str)
            assert first.fingerprint() == second.fingerprint() == first.fingerprint()
            for index, with_label in itertools.product(range(len(first)), (True, False)):
                key = first.key(index, with_label)
                assert json.dumps(key) == json.dumps(second.key(index, with_label))
                same(first.read(index, with_label), second.read(index, with_label))
            keys = [json.dumps(first.key(index, True)) for index in range(len(first))]
            if first.key(0, True) is not None:
                assert len(set(keys)) == len(keys), "a key tells all that pixels depend on"
                assert first.key(0, True) != first.key(0, False)

    def it_can_be_sent_to_another_process(self) -> None:
        images = self.open("train")
        sent = pickle.loads(pickle.dumps(images))
        assert len(sent) == len(images)
        assert sent.fingerprint() == images.fingerprint()
        same(sent.read(0, True), images.read(0, True))

    def prepared(self, loading: Loading = Loading(), *, labels: bool = True) -> PreparedSet:
        return PreparedSet(self.open("train"), SIZE, SIZE, with_labels=labels, loading=loading)

    def prepared_remembered_and_cached_samples_are_equal(self) -> None:
        cache = SampleCache(self.folder / "cache")
        for labels in (True, False):
            plain = self.prepared(labels=labels)
            remembered = self.prepared(Loading(memory=2**30), labels=labels)
            filling = self.prepared(Loading(cache=cache), labels=labels)
            filled = self.prepared(Loading(cache=cache), labels=labels)
            for index in range(len(plain)):
                expected = plain[index]
                assert expected.image.shape == (SIZE[1], SIZE[0], 3)
                if labels:
                    assert expected.label.shape == (SIZE[1], SIZE[0])
                for samples in (remembered, remembered, filling, filled):
                    same(samples[index], expected)
        written = list((self.folder / "cache").rglob("*.safetensors"))
        if plain.images.key(0, True) is not None:
            assert len(written) == 2 * len(plain)
        else:
            assert written == []

    def batches_depend_on_seed_and_position_alone(self) -> None:
        expected = self._batches(5)
        resumed = self._batches(3, start=2)
        by_workers = self._batches(5, workers=2)
        for batches, those in ((resumed, expected[2:]), (by_workers, expected)):
            for batch, other in zip(batches, those, strict=True):
                assert batch.names == other.names
                assert batch.images.equal(other.images)
                assert batch.labels.equal(other.labels)
                assert batch.unlisted == other.unlisted
        assert expected[0].images.shape == (2, 3, SIZE[1], SIZE[0])

    def _batches(self, count: int, start: int = 0, workers: int = 0) -> list[LoadedBatch]:
        stream = endless_batches(self.prepared(), 2, AUGMENT, (3, 1), start, workers)
        batches = list(itertools.islice(stream, count))
        stream.close()
        return batches


def same(sample: Sample, other: Sample) -> None:
    """Assert that two samples are equal to the bit."""
    assert sample.name == other.name
    assert np.array_equal(sample.image, other.image)
    assert (sample.label is None) == (other.label is None)
    assert sample.label is None or np.array_equal(sample.label, other.label)
    assert sample.unlisted == other.unlisted
