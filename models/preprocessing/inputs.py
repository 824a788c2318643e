"""From a version's raw input to what its network learns from: the parts of a row, each by its kind, side by side.

Everything is a built-in layer or operation of Keras, fitted on the train rows and saved inside the model, and has a
counterpart in ONNX. Layers are of float32 whatever the network computes in: a date is too large for less.
"""

from __future__ import annotations

from typing import Any

import keras

from models.preprocessing.categories import encoded_categories
from models.preprocessing.dates import encoded_dates
from models.preprocessing.images import encoded_images
from models.preprocessing.numbers import ColumnRules, encoded_numbers
from models.preprocessing.texts import embedded_words, mean_over_words
from models.rows import ModelInput
from models.signature import Signature
from models.spec.preprocessing import PreprocessingSpec


def preprocessed(
    inputs: Any, signature: Signature, rows: ModelInput, preprocessing: PreprocessingSpec, *, flat: bool
) -> Any:
    """Maps raw inputs to what a network learns from.

    Args:
        inputs: the Keras input tensor, `(None, *signature.input_shape)`, in raw units.
        rows: the train rows, from which everything is fitted.
        flat: whether the network takes one vector a row: a text is then the mean over its words.

    Returns:
        A tensor of float32: `(None, n)` for columns, `(None, height, width, channels)` for an image,
        `(None, steps, channels)` for a series, `(None, words, width)` for a text (0 behind its words) unless `flat`.

    Raises:
        InvalidDataset: when a missing category is to become one that was not seen in training.
    """
    if signature.image is not None:
        return encoded_images(inputs, signature.image, preprocessing.image)
    if signature.series is not None:
        rules = ColumnRules(signature.series, preprocessing.of(signature.series.name))
        return _side_by_side(encoded_numbers(inputs, rows, [rules] * signature.series.shape[1]))
    if signature.text is not None:
        words = embedded_words(inputs, signature.text, preprocessing.of(signature.text.name), "words")
        return mean_over_words(inputs, words) if flat else words
    return _side_by_side(_encoded_columns(inputs, signature, rows, preprocessing))


def _encoded_columns(
    inputs: Any, signature: Signature, rows: ModelInput, preprocessing: PreprocessingSpec
) -> list[Any]:
    of_kind: dict[str, list[tuple[int, ColumnRules]]] = {}
    for feature, place in zip(signature.features, signature.places, strict=True):
        kind = "numeric" if feature.kind == "boolean" else feature.kind
        rules = ColumnRules(feature, preprocessing.of(feature.name))
        of_kind.setdefault(kind, []).append((place.start, rules))
    parts = []
    for kind, columns in of_kind.items():
        places, rules = [place for place, _ in columns], [each for _, each in columns]
        match kind:
            case "numeric":
                # A row of numbers alone is taken as it is.
                values = inputs if len(places) == inputs.shape[1] else keras.ops.take(inputs, places, axis=1)
                parts += encoded_numbers(values, rows[:, places], rules)
            case "categorical":
                parts += encoded_categories(inputs, rows, columns)
            case "date":
                parts += encoded_dates(keras.ops.take(inputs, places, axis=1), rows[:, places], rules)
            case "text":
                for place, each in columns:
                    codes = inputs[:, place : place + each.feature.width]
                    words = embedded_words(codes, each.feature, each.rules, f"words_{place}")
                    parts.append(mean_over_words(codes, words))
    return parts


def _side_by_side(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(name="encoded", dtype="float32")(parts)
