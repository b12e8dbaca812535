"""Which images are worth a label: spread over what a domain shows, and hard for the network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float64]


def worth_labelling(vectors: Vectors, entropies: Vectors, count: int) -> list[int]:
    """One image of each of ``count`` groups: the one whose predictions are least sure.

    Groups are spread over the images' features by k-centre greedy (Sener and Savarese 2018,
    algorithm 1), which begins with the image nearest to the mean. Of equal images the first counts.

    Args:
        vectors: features of each image, [N, D].
        entropies: mean entropy of the predictions on each, [N].
        count: how many, from 1 to N.

    Returns:
        Their indices, ascending.
    """
    group = nearest_centre(vectors, spread_centres(vectors, count))
    chosen = []
    for number in range(count):
        members = np.flatnonzero(group == number)
        chosen.append(int(members[entropies[members].argmax()]))
    return sorted(chosen)


def spread_centres(vectors: Vectors, count: int) -> list[int]:
    """Indices of ``count`` different vectors, each the farthest from those before it."""
    distances = _distances(vectors, vectors.mean(0))
    centres = [int(distances.argmin())]
    nearest = _distances(vectors, vectors[centres[0]])
    while len(centres) < count:
        # Equal vectors have no distance, and still none is taken twice.
        nearest[centres] = -1.0
        farthest = int(nearest.argmax())
        centres.append(farthest)
        nearest = np.minimum(nearest, _distances(vectors, vectors[farthest]))
    return centres


def nearest_centre(vectors: Vectors, centres: list[int]) -> npt.NDArray[np.intp]:
    """Position in ``centres`` of the one nearest to each vector, [N]; of equal ones the first."""
    distances = np.stack([_distances(vectors, vectors[centre]) for centre in centres])
    # Each is in its own group, also where another is equal to it.
    distances[np.arange(len(centres)), centres] = -1.0
    nearest: npt.NDArray[np.intp] = distances.argmin(0)
    return nearest


def _distances(vectors: Vectors, point: Vectors) -> Vectors:
    distances: Vectors = np.square(vectors - point).sum(1)
    return distances
