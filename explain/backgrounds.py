"""What stands in place of what is hidden: reference rows by name."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explain.game import Background, Evaluate, Rows

ImageBackground = Literal["sample", "mean", "blur"]
SeriesBackground = Literal["sample", "mean", "zero"]
BackgroundName: TypeAlias = Literal["sample", "mean", "blur", "zero"]

BLUR_PART = 1 / 8
"""The standard deviation of the blur as a part of the longer side: shapes are gone, light and colour are left."""


def named_background(
    name: BackgroundName, row: Rows, sample: Background, evaluate: Evaluate, *, sigma: float | None = None
) -> Background:
    """Reference rows by name.

    - "sample": those of the version, with their weights. The base value is the mean output over them.
    - "mean": their weighted mean, one row. The base value is the output for it, which is not the mean output.
    - "blur": the explained image itself, blurred. The base value differs from row to row, and says what the model makes
      of an image with the same light and no shapes.
    - "zero": zeros, one row.

    With a single reference row the spread is 0, and S is |value - base value|.

    Args:
        row: `row_shape`, the row to explain; for a blur an image `(height, width, channels)`.
        sigma: standard deviation of the blur in pixels; an eighth of the longer side where it is not given.
    """
    if name == "sample":
        return sample
    if name == "mean":
        # einsum, not a BLAS product: its order of summation does not depend on threads.
        mean = np.einsum("m,m...->...", sample.weights, sample.rows.astype(np.float64))
        return baseline(mean.astype(sample.rows.dtype), evaluate)
    if name == "zero":
        return baseline(np.zeros_like(row), evaluate)
    return baseline(blurred(row, sigma), evaluate)


def baseline(row: NDArray, evaluate: Evaluate) -> Background:
    """A background of one row, `row_shape`."""
    return Background.of(row[np.newaxis], evaluate)


def blurred(image: Rows, sigma: float | None = None) -> Rows:
    """An image `(height, width, channels)` under a Gaussian blur of each channel; border pixels go on outside."""
    from scipy.ndimage import gaussian_filter

    wide = max(image.shape[:2]) * BLUR_PART if sigma is None else sigma
    smooth = gaussian_filter(image.astype(np.float64), (wide, wide, 0), mode="nearest").astype(image.dtype)
    # A channel of one colour stays what it is, whatever the rounding of the filter.
    flat = (image == image[0, 0]).all(axis=(0, 1))
    return np.where(flat, image, smooth)


def summarize(
    rows: Rows, n_rows: int, *, seed: int, weights: NDArray[np.float64] | None = None
) -> tuple[Rows, NDArray[np.float64]]:
    """Few weighted rows in place of many: the real row nearest to the centre of each k-means cluster.

    A row's weight is that of its cluster, so that the summary is a distribution over rows which exist: a centre may be
    a row that no one has ever seen. Columns count in units of their standard deviation.

    Args:
        rows: `(n, *row_shape)`.
        n_rows: at most so many are kept: fewer where there are fewer different rows.

    Returns:
        `(n_kept, *row_shape)` in the order of `rows`, and weights `(n_kept,)` that sum to 1.
    """
    from sklearn.cluster import KMeans

    shares = np.full(len(rows), 1 / len(rows)) if weights is None else weights
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    deviations = flat.std(axis=0)
    scaled = flat / np.where(deviations > 0, deviations, 1)
    n_clusters = min(n_rows, len(np.unique(scaled, axis=0)))
    # scikit-learn takes a number here as well as a word.
    fit = KMeans(n_clusters, n_init=4, random_state=seed)  # pyright: ignore[reportArgumentType]
    fit.fit(scaled, sample_weight=shares)
    distances = ((scaled - fit.cluster_centers_[fit.labels_]) ** 2).sum(axis=1)
    members = [np.flatnonzero(fit.labels_ == cluster) for cluster in range(n_clusters)]
    nearest = np.array([mine[np.argmin(distances[mine])] for mine in members])
    sums = np.array([shares[mine].sum() for mine in members])
    order = np.argsort(nearest)
    return rows[nearest[order]], sums[order] / sums.sum()
