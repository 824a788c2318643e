"""The model randomization test: an explanation must change when the model forgets what it learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.fidelity.agreement import centred_ranks

RELABELLINGS = 4999
BLOCK = 500


def randomized_weights(weights: Sequence[NDArray[Any]], *, seed: int) -> list[NDArray[Any]]:
    """Trainable weights drawn anew, each from a normal distribution with mean 0 and the array's root mean square.

    The whole network at once, which is the randomization of Efficient MPRT.
    """
    rng = np.random.default_rng(seed)
    return [
        (np.sqrt(np.mean(np.square(array, dtype=np.float64))) * rng.standard_normal(array.shape)).astype(array.dtype)
        for array in weights
    ]


def entropy(attributions: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(...,)`: the Shannon entropy of the players' parts of the sum of magnitudes, in nats.

    0 when one player has everything, log(n_players) when all have the same (Bhatt et al. 2020, "Evaluating and
    aggregating feature-based model explanations", complexity); NaN where all are 0.

    Args:
        attributions: `(..., n_players)`.
    """
    magnitudes = np.abs(attributions)
    totals = magnitudes.sum(axis=-1, keepdims=True)
    parts = np.divide(magnitudes, totals, out=np.full_like(magnitudes, np.nan), where=totals > 0)
    # x log x is 0 at 0.
    return 0.0 - (parts * np.log(np.where(parts > 0, parts, 1.0))).sum(axis=-1)


def entropy_rises(original: NDArray[np.float64], randomized: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n_rows,)`: how much more complex explanations of the randomized model are.

    Efficient MPRT (Hedström et al. 2023, "Sanity checks revisited: an exploration to repair the model parameter
    randomisation test"): (entropy of the randomized model's explanation - entropy) / entropy. Above 0, the model
    had learned to look somewhere. The paper takes the entropy of a histogram of thousands of pixels; `entropy` needs no
    bins and holds for ten columns too. It is 0 for an explanation that does not look at the model; below 0 also for a
    right one, of a model that rightly uses all players alike. NaN where an explanation is all 0, or one player has all.

    Args:
        original, randomized: `(n_rows, n_players)`, of the same target of each row.
    """
    before, after = entropy(original), entropy(randomized)
    return np.divide(after - before, before, out=np.full_like(before, np.nan), where=before > 0)


def likeness(original: NDArray[np.float64], randomized: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """How alike the two models' explanations are, and how likely so much would be by chance.

    The similarity of the model parameter randomization test (Adebayo et al. 2018, "Sanity checks for saliency maps"):
    Spearman's correlation over players, -1 to 1, meaned over rows; 1 for an explanation that does not look at the
    model. A randomized network treats all rows in one way, so rows are not independent: the p-value comes from
    relabelling the players of the randomized model, in the same way for every row. With n players it is at least
    1 / n!, so that below 7 nothing can be told.

    Args:
        original, randomized: `(n_rows, n_players)`, of the same target of each row.

    Returns:
        The correlation, NaN where one side of every row is constant; and the p-value.
    """
    products = np.zeros((original.shape[1],) * 2)
    n_rows = 0
    for left, right in zip(original, randomized, strict=True):
        first, second = centred_ranks(left), centred_ranks(right)
        norms = np.sqrt((first @ first) * (second @ second))
        if norms > 0:
            products += np.outer(first, second) / norms
            n_rows += 1
    if n_rows == 0:
        return float("nan"), 1.0
    observed = float(np.trace(products))
    rng = np.random.default_rng(seed)
    players = np.arange(len(products))
    reached = 0
    for count in (*[BLOCK] * (RELABELLINGS // BLOCK), RELABELLINGS % BLOCK):
        labels = rng.permuted(np.tile(players, (count, 1)), axis=1)
        reached += int((products[players, labels].sum(axis=1) >= observed - 1e-9).sum())
    return observed / n_rows, (1 + reached) / (1 + RELABELLINGS)
