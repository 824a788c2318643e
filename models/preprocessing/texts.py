"""Texts: each word as a vector, and a text as the mean of its words."""

from __future__ import annotations

from typing import Any

import keras

from models.signature import PADDING, Feature
from models.spec.preprocessing import PreprocessingSpec

ops: Any = keras.ops

DEVIATION = 0.25
"""Of the numbers that words are embedded as, before they are learned: larger than Keras's own 0.05 / sqrt(3), since the
mean over many words is small."""


def embedded_words(codes: Any, feature: Feature, rules: PreprocessingSpec, name: str) -> Any:
    """The vectors of the words of texts.

    Args:
        codes: `(None, words)`, float32.

    Returns:
        `(None, words, width)`, 0 where a text has ended.
    """
    embedding = keras.layers.Embedding(
        feature.n_codes,
        rules.text.width,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=DEVIATION),
        name=name,
        dtype="float32",
    )
    return embedding(ops.cast(codes, "int32")) * _is_word(codes)


def mean_over_words(codes: Any, words: Any) -> Any:
    """`(None, width)`: the mean of the words of each text, 0 where it has none."""
    counts = ops.maximum(ops.sum(_is_word(codes), axis=1), 1.0)
    return ops.sum(words, axis=1) / counts


def _is_word(codes: Any) -> Any:
    """`(None, words, 1)`: 1 for a word, 0 for padding."""
    return ops.expand_dims(ops.cast(ops.not_equal(codes, float(PADDING)), "float32"), -1)
