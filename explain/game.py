"""The game that attributions share out: players, coalitions, and the value of a coalition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""`(n_rows, *row_shape)`."""
Outputs = NDArray[np.floating[Any]]
"""`(n_rows, n_outputs)`."""
CoalitionMatrix = NDArray[np.bool_]
"""`(n_coalitions, n_players)`; True where the player takes the explained row's value."""

Evaluate = Callable[[Rows], Outputs]


@dataclass(frozen=True)
class Background:
    """Weighted reference rows, with the model's outputs for them.

    Attributes:
        rows: `(n_background, *row_shape)`.
        weights: `(n_background,)`, summing to 1.
        outputs: `(n_background, n_outputs)` in float64.
    """

    rows: Rows
    weights: NDArray[np.float64]
    outputs: NDArray[np.float64]

    @staticmethod
    def of(rows: Rows, evaluate: Evaluate, weights: NDArray[np.float64] | None = None) -> Background:
        """Evaluates the model on the reference rows; equal weights when none are given."""
        if weights is None:
            weights = np.full(len(rows), 1.0 / len(rows))
        return Background(rows, weights, np.asarray(evaluate(rows), dtype=np.float64))

    @cached_property
    def base_values(self) -> NDArray[np.float64]:
        """`(n_outputs,)`: the weighted mean output."""
        return self.weights @ self.outputs

    @cached_property
    def spreads(self) -> NDArray[np.float64]:
        """`(n_outputs,)`: the weighted standard deviation of each output."""
        return np.sqrt(self.weights @ (self.outputs - self.base_values) ** 2)


@dataclass(frozen=True)
class Game:
    """A model, a row, a weighted background and players.

    v(S) is the weighted mean output with the players outside S replaced by background values (interventional; Janzing
    et al. 2020, "Feature relevance quantification in explainable AI").

    Attributes:
        evaluate: the only access to the model, `(n_rows, *row_shape)` to `(n_rows, n_outputs)`.
        row: `row_shape`, the row to explain.
        players: an integer array of `row_shape`: which player each element belongs to, 0 to n_players - 1.
    """

    evaluate: Evaluate
    row: Rows
    background: Background
    players: NDArray[np.intp]

    @cached_property
    def n_players(self) -> int:
        return int(self.players.max()) + 1

    @cached_property
    def value(self) -> NDArray[np.float64]:
        """`(n_outputs,)`: the model's output for the row."""
        return np.asarray(self.evaluate(self.row[np.newaxis]), dtype=np.float64)[0]

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """`(n_outputs,)`: S = max(|value - base value|, spread), and no less than a float32 output can resolve.

        Without that floor a constant model would have its rounding explained, to a tolerance that is never reached.
        """
        resolution = np.finfo(np.float32).eps * np.abs(self.value)
        return np.maximum.reduce(
            [np.abs(self.value - self.background.base_values), self.background.spreads, resolution]
        )

    @cached_property
    def differing(self) -> CoalitionMatrix:
        """`(n_background, n_players)`: whether a player's value differs between the row and a background row."""
        n_background = len(self.background.rows)
        unlike = self.background.rows != self.row
        if np.isnan(self.row).any():
            # A value that is missing here and there is the same value.
            unlike &= ~(np.isnan(self.background.rows) & np.isnan(self.row))
        elements, owners = unlike.reshape(n_background, -1), self.players.reshape(-1)
        differing = np.zeros((n_background, self.n_players), dtype=bool)
        if self.n_players == len(owners):
            differing[:, owners] = elements
        else:
            np.logical_or.at(differing.T, owners, elements.T)
        return differing

    @cached_property
    def playing(self) -> NDArray[np.intp]:
        """`(n_playing,)`: the players that differ from some background row. The others are dummies."""
        return np.flatnonzero(self.differing.any(axis=0))

    def coalition_values(
        self,
        coalitions: CoalitionMatrix,
        playing: NDArray[np.intp],
        members: NDArray[np.intp],
        *,
        slice_rows: int,
    ) -> NDArray[np.float64]:
        """`(n_coalitions, n_outputs)`: weighted sums of outputs over some background rows, for each coalition.

        Args:
            coalitions: `(n_coalitions, n_playing)`.
            playing: the players that the columns of `coalitions` stand for; the others keep the background's values.
            members: which background rows. Over all of them the sum is v(S).
            slice_rows: the most rows in one call of the model.
        """
        sums = np.zeros((len(coalitions), len(self.background.base_values)))
        for first in range(0, len(members), slice_rows):
            chunk = members[first : first + slice_rows]
            block = slice_rows // len(chunk)
            for start in range(0, len(coalitions), block):
                part = slice(start, start + block)
                rows = self.mixed_rows(coalitions[part], playing, chunk)
                sums[part] += self.weighted_sums(self.evaluate(rows), chunk)
        return sums

    def mixed_rows(self, coalitions: CoalitionMatrix, playing: NDArray[np.intp], members: NDArray[np.intp]) -> Rows:
        """`(n_coalitions * n_members, *row_shape)`: background rows with each coalition put in."""
        if len(playing) < self.n_players:
            joined = np.zeros((len(coalitions), self.n_players), dtype=bool)
            joined[:, playing] = coalitions
        else:
            joined = coalitions
        references = self.background.rows.reshape(-1, self.row.size)[members]
        # The rows of one coalition are made together: loops over the few elements of a row would cost twice as much.
        masks = _masks(joined.take(self.players.reshape(-1), axis=1), references).repeat(len(members), axis=0)
        return _mixed(masks.reshape(len(joined), -1), self.row.reshape(-1), references).reshape(-1, *self.row.shape)

    def weighted_sums(self, outputs: Outputs, members: NDArray[np.intp]) -> NDArray[np.float64]:
        """`(n_coalitions, n_outputs)`: the outputs for `mixed_rows`, weighted and summed over the background rows."""
        # An output's values together, so that the sum runs over what is side by side.
        per_output = outputs.T.astype(np.float64, order="C").reshape(outputs.shape[-1], -1, len(members))
        # einsum, not a BLAS product: its order of summation does not depend on threads.
        return np.einsum("m,kcm->ck", self.background.weights[members], per_output)

    def hybrid_outputs(self, coalitions: CoalitionMatrix, members: NDArray[np.intp]) -> NDArray[np.float64]:
        """`(n_rows, n_outputs)`: outputs for background rows, each with a coalition of its own put in, in one call.

        Args:
            coalitions: `(n_rows, n_players)`.
            members: `(n_rows,)`, which background rows.
        """
        references = self.background.rows.reshape(-1, self.row.size)[members]
        masks = _masks(coalitions.take(self.players.reshape(-1), axis=1), references)
        rows = _mixed(masks, self.row.reshape(-1), references)
        return np.asarray(self.evaluate(rows.reshape(-1, *self.row.shape)), dtype=np.float64)

    def of_all(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the playing players, `(n_playing, n)`, as those of all, `(n_players, n)`: 0 for the others."""
        everyone = np.zeros((self.n_players, values.shape[1]))
        everyone[self.playing] = values
        return everyone

    def sum_to_players(self, elements: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums values of elements, `(n, *row_shape)`, to values of players, `(n, n_players)`."""
        flat = elements.reshape(len(elements), -1)
        if self.n_players == flat.shape[1]:
            ordered = np.empty_like(flat)
            ordered[:, self.players.reshape(-1)] = flat
            return ordered
        sums = np.zeros((len(flat), self.n_players))
        np.add.at(sums.T, self.players.reshape(-1), flat.T)
        return sums


def _masks(chosen: NDArray[np.bool_], like: Rows) -> NDArray[np.unsignedinteger[Any]]:
    """All bits of a value of that type where it is chosen, none where it is not."""
    # 0 - 1 is every bit.
    return np.negative(chosen.astype(f"u{like.dtype.itemsize}"))


def _mixed(masks: NDArray[np.unsignedinteger[Any]], explained: Rows, references: Rows) -> Rows:
    """The explained row's values where the masks say so, the references' elsewhere. Takes the masks' memory.

    Args:
        masks: `(n, n_elements)`, a line for each reference, or `(n, n_references * n_elements)`, for all of them.
        explained: `(n_elements,)`.
        references: `(n_references, n_elements)`.

    Values are chosen by their bits, x = r ^ ((r ^ x) & mask): twice as fast as `numpy.where`, which took a third of the
    time of a small network's evaluation.
    """
    bits = masks.dtype
    kept = np.ascontiguousarray(references).view(bits)
    changes = kept ^ np.ascontiguousarray(explained).view(bits)
    masks &= changes.reshape(-1, masks.shape[-1])
    masks ^= kept.reshape(-1, masks.shape[-1])
    return masks.view(references.dtype)
