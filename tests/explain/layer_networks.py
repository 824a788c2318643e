"""Small networks, one for each kind of layer that explanations should cope with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from explain.game import Background, Game
from explain.inputs import Inputs, one_input_model

TOKENS = 9


@dataclass(frozen=True)
class Network:
    """A kind of layer within a small network, with random weights, a row and a background of two rows.

    Attributes:
        build: the model, `(n_rows, *row_shape)` to `(n_rows, 1)`.
        tokens: whether its input is numbers of words.
        players: those of `players_of` where there are none.
    """

    layer: str
    row_shape: tuple[int, ...]
    build: Callable[[], Any]
    tokens: bool = False
    players: Any = None

    @cached_property
    def model(self) -> Any:
        return self._built("float32")

    @cached_property
    def precise_model(self) -> Any:
        """The same in float64."""
        precise = self._built("float64")
        precise.set_weights(self.model.get_weights())
        return precise

    @cached_property
    def game(self) -> Game:
        return self._game(self.model)

    @cached_property
    def precise_game(self) -> Game:
        return self._game(self.precise_model)

    def _built(self, precision: str) -> Any:
        import keras

        with _precision(precision):
            keras.utils.set_random_seed(0)
            model = self.build()
        # Biases, moving means and the like start at 0 or 1, which would leave them untested.
        rng = np.random.default_rng(1)
        model.set_weights(
            [
                np.abs(w + rng.normal(0, 0.2, w.shape)) if _is_variance(v) else w + rng.normal(0, 0.2, w.shape)
                for v, w in zip(model.weights, model.get_weights(), strict=True)
            ]
        )
        return model

    def _game(self, model: Any) -> Game:
        rng = np.random.default_rng(2)
        shape = (3, *self.row_shape)
        rows = (rng.integers(0, TOKENS, shape) if self.tokens else rng.normal(size=shape)).astype(np.float32)

        def evaluate(batch: Any) -> Any:
            return model(batch, training=False).numpy()

        background = Background.of(rows[1:], evaluate, np.array([0.25, 0.75]))
        players = players_of(self.row_shape) if self.players is None else self.players
        return Game(evaluate, rows[0], background, players)


def players_of(row_shape: tuple[int, ...]) -> Any:
    """One player per column or token; halves along each axis of an image or a volume, quarters of a series."""
    if len(row_shape) == 1:
        return np.arange(row_shape[0])
    *lengths, _ = row_shape
    parts = 4 if len(lengths) == 1 else 2
    players = np.zeros(row_shape, dtype=np.intp)
    for place, length in zip(np.indices(row_shape), lengths, strict=False):
        players = players * parts + place * parts // length
    return players


@contextmanager
def _precision(name: str) -> Iterator[None]:
    import keras

    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def _is_variance(variable: Any) -> bool:
    return "variance" in variable.path


def networks() -> list[Network]:
    import keras

    layers = keras.layers

    def stacked(row_shape: tuple[int, ...], *hidden: Callable[[], Any], dtype: str | None = None) -> Callable[[], Any]:
        def build() -> Any:
            inputs = keras.Input(row_shape, dtype=dtype)
            outputs = inputs
            for layer in hidden:
                outputs = layer()(outputs)
            if len(outputs.shape) > 2:
                outputs = layers.Flatten()(outputs)
            return keras.Model(inputs, layers.Dense(1)(outputs))

        return build

    def of(layer: str, row_shape: tuple[int, ...], *hidden: Callable[[], Any]) -> Network:
        return Network(layer, row_shape, stacked(row_shape, *hidden))

    def attention() -> Any:
        inputs = keras.Input((4, 3))
        hidden = layers.Dense(4)(inputs)
        hidden = layers.Add()([hidden, layers.MultiHeadAttention(2, 2)(hidden, hidden)])
        return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(hidden)))

    def residual() -> Any:
        inputs = keras.Input((6, 6, 1))
        first = layers.Conv2D(3, 3, padding="same", activation="relu")(inputs)
        second = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(first))
        hidden = layers.ReLU()(layers.Add()([first, second]))
        return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Flatten()(hidden)))

    def two_inputs() -> Any:
        image, columns = keras.Input((4, 4, 1)), keras.Input((3,))
        seen = layers.Flatten()(layers.Conv2D(2, 3, activation="relu")(image))
        known = layers.Dense(4, activation="relu")(columns)
        return one_input_model(keras.Model([image, columns], layers.Dense(1)(layers.Concatenate()([seen, known]))))

    def embedded(*hidden: Callable[[], Any]) -> Callable[[], Any]:
        return stacked((6,), lambda: layers.Embedding(TOKENS, 4), *hidden, dtype="int32")

    image_and_columns = Inputs(((4, 4, 1), (3,))).players([players_of((4, 4, 1)), players_of((3,))])
    image, series = (6, 6, 1), (8, 2)
    return [
        of("`Dense` on 2-D input", (6,), lambda: layers.Dense(8, activation="relu")),
        of("`Dense` on 3-D input", (4, 3), lambda: layers.Dense(5, activation="tanh")),
        of("`Conv1D`", series, lambda: layers.Conv1D(4, 3, activation="relu")),
        of(
            "`Conv2D`, `MaxPooling2D`",
            image,
            lambda: layers.Conv2D(3, 3, padding="same", activation="relu"),
            lambda: layers.MaxPooling2D(),
        ),
        of("`Conv3D`", (4, 4, 4, 1), lambda: layers.Conv3D(3, 2, activation="relu")),
        of("`DepthwiseConv2D`", image, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")),
        of("`SeparableConv2D`", image, lambda: layers.SeparableConv2D(4, 3, activation="relu")),
        of("`Conv2DTranspose`", image, lambda: layers.Conv2DTranspose(2, 3, strides=2, activation="relu")),
        of(
            "`BatchNormalization`",
            image,
            lambda: layers.Conv2D(3, 3),
            lambda: layers.BatchNormalization(),
            lambda: layers.ReLU(),
        ),
        of(
            "`LayerNormalization`",
            series,
            lambda: layers.Conv1D(4, 3),
            lambda: layers.LayerNormalization(),
            lambda: layers.ReLU(),
        ),
        of(
            "`GroupNormalization`",
            image,
            lambda: layers.Conv2D(4, 3),
            lambda: layers.GroupNormalization(2),
            lambda: layers.ReLU(),
        ),
        Network("residual block, sigmoid", image, residual),
        of("`LSTM`", (4, 2), lambda: layers.LSTM(4)),
        of("`GRU`", (4, 2), lambda: layers.GRU(4)),
        of("`Bidirectional` LSTM", (4, 2), lambda: layers.Bidirectional(layers.LSTM(3))),
        Network("`MultiHeadAttention`", (4, 3), attention),
        Network("`Embedding`", (6,), embedded(lambda: layers.GlobalAveragePooling1D()), tokens=True),
        Network(
            "`Embedding`, `Conv1D`",
            (6,),
            embedded(lambda: layers.Conv1D(4, 3, activation="relu"), lambda: layers.GlobalAveragePooling1D()),
            tokens=True,
        ),
        of("GELU", (6,), lambda: layers.Dense(8, activation="gelu")),
        of("SiLU", (6,), lambda: layers.Dense(8, activation="silu")),
        of("`LeakyReLU`", (6,), lambda: layers.Dense(8), lambda: layers.LeakyReLU()),
        Network("two inputs, by `one_input_model`", (19,), two_inputs, players=image_and_columns),
    ]
