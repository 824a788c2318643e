"""Networks of several inputs as networks of one: how their rows lie side by side in one flat row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.game import Rows


@dataclass(frozen=True)
class Inputs:
    """Several inputs in one flat row.

    A `Game` has one array as its row. For a network of several inputs that is `join` of their rows, with
    `one_input_model` to evaluate and differentiate, and `players` to say whose elements are whose. An engine that takes
    a list evaluates `split`.

    Attributes:
        shapes: of a row of each input, in the network's order (that of `model.inputs`).
    """

    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(model: Any) -> Inputs:
        """The inputs of a Keras model. All their axes but the first must have a size."""
        return Inputs(tuple(tuple(tensor.shape[1:]) for tensor in model.inputs))

    @property
    def ends(self) -> list[int]:
        """Where each input ends in the flat row."""
        return list(accumulate(int(np.prod(shape)) for shape in self.shapes))

    def join(self, arrays: Sequence[NDArray[Any]]) -> Rows:
        """From `(n_rows, *shape)` of each input to `(n_rows, n_elements)`."""
        return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1, dtype=np.float32)

    def split(self, rows: Rows) -> list[Rows]:
        """From `(n_rows, n_elements)` to `(n_rows, *shape)` of each input."""
        parts = np.split(rows, self.ends[:-1], axis=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def players(self, each: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
        """The players of the flat row, from those of each input's row: first the first input's, then the others'."""
        firsts = accumulate((int(players.max()) + 1 for players in each[:-1]), initial=0)
        return np.concatenate([players.reshape(-1) + first for players, first in zip(each, firsts, strict=True)])


def one_input_model(model: Any) -> Any:
    """A Keras model on the same layers that takes `Inputs.join` of its inputs: `(n_rows, n_elements)`.

    Its gradients are those of the inputs, side by side. In float32 whole numbers are exact up to 2^24.
    """
    import keras

    ops: Any = keras.ops
    inputs = Inputs.of(model)
    flat = keras.Input((inputs.ends[-1],))
    parts = ops.split(flat, inputs.ends[:-1], axis=1)
    shaped = [
        ops.cast(ops.reshape(part, (-1, *shape)), tensor.dtype)
        for part, shape, tensor in zip(parts, inputs.shapes, model.inputs, strict=True)
    ]
    return keras.Model(flat, model(keras.tree.pack_sequence_as(model.input, shaped)))
