"""What layers hold beside their weights, in a form that ends up as constants of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np


@contextmanager
def exportable(model: Any) -> Iterator[None]:
    """A Keras model whose layers, while the block runs, hold nothing that tf2onnx makes an input of the graph.

    Tensors (what a Normalization was adapted to, or given) are arrays, which become constants; the table of a lookup is
    the list of its keys. Layers within nested models are meant, too.
    """
    import tensorflow as tf

    held: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for layer in model._flatten_layers():
            attributes = vars(layer)
            for name, value in list(attributes.items()):
                if isinstance(value, tf.Tensor):
                    stand_in: Any = value.numpy()
                elif name == "lookup_table" and hasattr(value, "export"):
                    stand_in = ListedTable.of(value, attributes["_default_value"])
                else:
                    continue
                held.append((attributes, name, value))
                # Not by setattr: Keras would take note of it.
                attributes[name] = stand_in
        yield
    finally:
        for attributes, name, value in held:
            attributes[name] = value


@dataclass(frozen=True)
class ListedTable:
    """A table of TensorFlow's as lists: each key is compared with all of them.

    Attributes:
        keys, values: `(n_keys,)`.
        default: for a key that is not there.
    """

    keys: np.ndarray
    values: np.ndarray
    default: int

    @classmethod
    def of(cls, table: Any, default: int) -> ListedTable:
        keys, values = (each.numpy() for each in table.export())
        return cls(keys, values, default)

    def lookup(self, asked: Any) -> Any:
        import tensorflow as tf

        # Keys are there once at most, so that one value is added up, or none.
        is_it = tf.equal(asked[..., tf.newaxis], self.keys)
        offsets = tf.where(is_it, self.values - self.default, 0)
        return tf.reduce_sum(offsets, axis=-1) + self.default

    def size(self) -> Any:
        import tensorflow as tf

        return tf.constant(len(self.keys), tf.int64)
