"""In which order rows are learned from: a pure function of seed and epoch, so that an epoch can be run again."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def n_batches(n_rows: int, batch_size: int) -> int:
    """Batches of one epoch; the last may be smaller."""
    return -(-n_rows // batch_size)


def shuffled_batches(
    arrays: tuple[np.ndarray, ...], *, batch_size: int, seed: int, first_epoch: int, epochs: int
) -> tf.data.Dataset:
    """The batches of the epochs from `first_epoch` (counted from 0) to `epochs`, one after another.

    Keras's own shuffling draws each epoch's order from a generator whose state no checkpoint holds. Here the order
    of an epoch is drawn from (seed, epoch) alone, wherever the stream begins. It is not slower: the stream runs on
    across epochs, where Keras makes new iterators for each.

    Args:
        arrays: each `(n_rows, ...)`.

    Returns:
        A stream of tuples like `arrays`, each array `(at most batch_size, ...)`. Every epoch has each row once.
    """
    n_rows = len(arrays[0])
    with tf.device("CPU:0"):
        held = tuple(tf.convert_to_tensor(array) for array in arrays)

    # TensorFlow would translate each function by autograph, which writes a file that stays where the process is killed.
    as_it_is = tf.autograph.experimental.do_not_convert

    @as_it_is
    def order(epoch: Any) -> Any:
        rows = tf.range(n_rows, dtype=tf.int64)
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        random: Any = tf.random
        return random.experimental.stateless_shuffle(rows, seed=key, alg="philox")

    @as_it_is
    def cut(rows: Any) -> tf.data.Dataset:
        steps = tf.data.Dataset.range(n_batches(n_rows, batch_size))
        return steps.map(as_it_is(lambda step: rows[step * batch_size : (step + 1) * batch_size]))

    indices = tf.data.Dataset.range(first_epoch, epochs).map(order).prefetch(1).flat_map(cut)
    stream = indices.map(
        as_it_is(lambda rows: tuple(tf.gather(array, rows) for array in held)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    options = tf.data.Options()
    # Rewriting the pipeline costs more at the start than it gains in one so short; Keras leaves it out too.
    options.experimental_optimization.apply_default_optimizations = False
    return stream.with_options(options).prefetch(tf.data.AUTOTUNE)
