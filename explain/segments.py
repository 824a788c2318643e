"""Players of an image: pixels, and segments of like colour."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from explain.errors import InvalidPlayers
from explain.hierarchy import Hierarchy, Tree
from explain.players import PixelPlayer, Players, SegmentPlayer, pixel_players

FINE_START = 1024
"""Images of at most so many pixels are segmented from single pixels; larger ones from superpixels."""
SUPERPIXELS_PER_SEGMENT = 4
SUPERPIXEL_COMPACTNESS = 0.1
"""SLIC's weight of nearness against likeness, for colours from 0 to 1."""
NEARNESS = 0.5
"""What the longer side of the image weighs as a distance, beside a full step in colour."""


def image_pixels(row_shape: tuple[int, ...], *, feature: str = "image") -> Players:
    """One player per pixel, its channels together, numbered in reading order.

    The hierarchy halves the image again and again, each time across its longer side.
    """
    height, width, _ = row_shape
    _, tree = _grid(height, width, height * width)
    described = tuple(PixelPlayer(feature, row, column) for row in range(height) for column in range(width))
    return Players(pixel_players(row_shape), described, Hierarchy(tree))


def grid_players(row_shape: tuple[int, ...], n_segments: int, *, feature: str = "image") -> Players:
    """Rectangles of about one size, the same for every image of a shape.

    Raises:
        InvalidPlayers: when more segments are asked than there are pixels, or less than one.
    """
    height, width, _ = row_shape
    _check_count(height, width, n_segments)
    return _players(*_grid(height, width, n_segments), row_shape, n_segments, feature)


def segment_players(image: NDArray[np.floating], n_segments: int, *, feature: str = "image") -> Players:
    """Connected segments of like colour, as many as asked for.

    Small images start from single pixels, larger ones from about four superpixels per segment (SLIC; Achanta et al.
    2012). Then the two neighbours whose union adds least to the squared distances from their mean (Ward 1963) are
    merged, again and again, where a distance is of colour (CIELAB for three channels) and of place: until `n_segments`
    are left, which are the players, and on to a single one, which gives the hierarchy. Nothing is drawn: an image
    always has the same segments. An image of one colour, which has no segments of its own, gets those of
    `grid_players`.

    Args:
        image: `(height, width, channels)`, in any units.

    Raises:
        InvalidPlayers: when more segments are asked than there are pixels, or less than one.
    """
    height, width, channels = image.shape
    _check_count(height, width, n_segments)
    if (image == image[0, 0]).all():
        return grid_players(image.shape, n_segments, feature=feature)
    colours = _colours(image)
    start = _start(colours, n_segments)
    labels, tree = _cut(start, _merges(start, colours), n_segments)
    return _players(labels, tree, (height, width, channels), n_segments, feature)


def _check_count(height: int, width: int, n_segments: int) -> None:
    if not 1 <= n_segments <= height * width:
        raise InvalidPlayers(f"1 to {height * width} segments for {height} x {width} pixels", f"{n_segments}")


def _players(
    labels: NDArray[np.intp], tree: Tree, row_shape: tuple[int, ...], n_segments: int, feature: str
) -> Players:
    elements = np.repeat(labels[..., np.newaxis], row_shape[2], axis=2)
    return Players(elements, tuple(SegmentPlayer(feature, i) for i in range(n_segments)), Hierarchy(tree))


def _grid(height: int, width: int, n_segments: int) -> tuple[NDArray[np.intp], Tree]:
    """Halves the rectangle across its longer side until there are `n_segments`; any number fits."""
    labels = np.zeros((height, width), dtype=np.intp)

    def split(part: NDArray[np.intp], first: int, count: int) -> Tree:
        part[:] = first
        if count == 1:
            return first
        if part.shape[0] < part.shape[1]:
            part = part.T
        long, short = part.shape
        cut = long // 2
        # As many on each side as its size asks for, and no more than it has pixels.
        before = min(max(round(count * cut / long), count - (long - cut) * short, 1), cut * short, count - 1)
        return split(part[:cut], first, before), split(part[cut:], first + before, count - before)

    tree = split(labels, 0, n_segments)
    return _in_reading_order(labels, tree)


def _in_reading_order(labels: NDArray[np.intp], tree: Tree) -> tuple[NDArray[np.intp], Tree]:
    """Renumbers segments by their first pixels, in the tree as well."""
    names, first_pixels = np.unique(labels, return_index=True)
    ranks = np.empty(len(names), dtype=np.intp)
    ranks[np.argsort(first_pixels)] = np.arange(len(names))
    numbers = dict(zip(names.tolist(), ranks.tolist(), strict=True))
    return ranks[np.searchsorted(names, labels)], _renumbered(tree, numbers)


def _renumbered(tree: Tree, numbers: dict[int, int]) -> Tree:
    return numbers[tree] if isinstance(tree, int) else tuple(_renumbered(part, numbers) for part in tree)


def _colours(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Colours of which a distance of 1 is that of black and white, `(height, width, channels)`."""
    from skimage.color import rgb2lab

    low, high = float(image.min()), float(image.max())
    scaled = (image.astype(np.float64) - low) / (high - low)
    return rgb2lab(scaled) / 100 if image.shape[2] == 3 else scaled / np.sqrt(image.shape[2])


def _start(colours: NDArray[np.float64], n_segments: int) -> NDArray[np.intp]:
    """At least `n_segments` connected segments to begin with, `(height, width)`."""
    from skimage.segmentation import slic

    n_pixels = colours.shape[0] * colours.shape[1]
    pixels = np.arange(n_pixels).reshape(colours.shape[:2])
    asked = SUPERPIXELS_PER_SEGMENT * n_segments
    if n_pixels <= FINE_START:
        return pixels
    # SLIC gives about as many as it is asked for.
    while asked < n_pixels:
        labels = slic(colours, asked, SUPERPIXEL_COMPACTNESS, channel_axis=-1, convert2lab=False, start_label=0)
        names, flat = np.unique(labels, return_inverse=True)
        if len(names) >= n_segments:
            return flat.reshape(labels.shape).astype(np.intp)
        asked *= 2
    return pixels


def _merges(labels: NDArray[np.intp], colours: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Which neighbours are merged, one pair after another until one is left.

    Args:
        labels: `(height, width)`, connected segments from 0 to n_start - 1.

    Returns:
        n_start - 1 pairs; the k-th makes segment n_start + k.
    """
    flat = labels.reshape(-1)
    places = np.moveaxis(np.array(np.indices(labels.shape)), 0, -1) * (NEARNESS / max(labels.shape))
    traits = np.concatenate([colours, places], axis=2).reshape(len(flat), -1)
    sizes = np.bincount(flat).astype(np.float64).tolist()
    sums = np.stack([np.bincount(flat, trait) for trait in traits.T], axis=1)
    means = list(sums / np.array(sizes)[:, np.newaxis])
    neighbours = _neighbours(labels)
    alive = set(range(len(sizes)))

    def cost(one: int, other: int) -> float:
        gap = means[one] - means[other]
        return sizes[one] * sizes[other] / (sizes[one] + sizes[other]) * float((gap * gap).sum())

    # Ties go to the smaller numbers, so that nothing depends on the order of sets.
    waiting = [(cost(one, other), one, other) for one in alive for other in neighbours[one] if one < other]
    heapq.heapify(waiting)
    merges: list[tuple[int, int]] = []
    while len(alive) > 1:
        _, one, other = heapq.heappop(waiting)
        if one not in alive or other not in alive:
            continue
        merged = len(sizes)
        merges.append((one, other))
        sizes.append(sizes[one] + sizes[other])
        means.append((sizes[one] * means[one] + sizes[other] * means[other]) / sizes[merged])
        alive -= {one, other}
        neighbours.append((neighbours[one] | neighbours[other]) & alive)
        alive.add(merged)
        for near in neighbours[merged]:
            neighbours[near].add(merged)
            heapq.heappush(waiting, (cost(near, merged), near, merged))
    return merges


def _neighbours(labels: NDArray[np.intp]) -> list[set[int]]:
    """The segments that share an edge with each."""
    beside = np.stack([labels[:, :-1].reshape(-1), labels[:, 1:].reshape(-1)])
    below = np.stack([labels[:-1].reshape(-1), labels[1:].reshape(-1)])
    neighbours: list[set[int]] = [set() for _ in range(int(labels.max()) + 1)]
    for one, other in np.unique(np.concatenate([beside, below], axis=1), axis=1).T.tolist():
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    return neighbours


def _cut(labels: NDArray[np.intp], merges: list[tuple[int, int]], n_segments: int) -> tuple[NDArray[np.intp], Tree]:
    """The segments when `n_segments` are left, and the tree of the merges that follow."""
    n_start = len(merges) + 1
    segment_of = np.arange(2 * n_start - 1)
    early = n_start - n_segments
    # Downwards, so that each is told by the one that it was merged into.
    for k in reversed(range(early)):
        segment_of[list(merges[k])] = segment_of[n_start + k]
    trees: dict[int, Tree] = {node: node for node in np.unique(segment_of[:n_start]).tolist()}
    for k in range(early, n_start - 1):
        one, other = merges[k]
        trees[n_start + k] = (trees.pop(one), trees.pop(other))
    (tree,) = trees.values()
    return _in_reading_order(segment_of[labels], tree)
