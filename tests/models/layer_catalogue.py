"""Small networks, one for each layer of Keras, and the rows that each is asked about."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from models.signature import Feature, Signature

layers: Any = keras.layers
N_ROWS = 64

COLUMNS, SERIES, IMAGE, VOLUME, FRAMES = (6,), (12, 5), (8, 8, 3), (6, 6, 6, 2), (4, 6, 6, 2)


@dataclass(frozen=True)
class Kind:
    """A layer, or a way to use it, in a network of its own.

    Attributes:
        layer: its class in `keras.layers`.
        apply: from the input tensor to what the layer makes of it.
        rows: `(n_rows, *row_shape)` drawn with a generator; default: normal numbers.
    """

    layer: str
    row_shape: tuple[int, ...]
    apply: Callable[[Any], Any]
    rows: Callable[[np.random.Generator, tuple[int, ...]], Any] = field(
        default=lambda rng, shape: rng.normal(size=shape).astype(np.float32)
    )
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.layer} ({self.note})" if self.note else self.layer

    def model(self) -> Any:
        """`(n_rows, *row_shape)` to `(n_rows, 1)`, with random weights."""
        keras.utils.set_random_seed(0)
        inputs = keras.Input(self.input_shape)
        hidden = self.apply(inputs if self.input_shape == self.row_shape else layers.Reshape(self.row_shape)(inputs))
        flat = hidden if len(hidden.shape) == 2 else layers.Flatten()(hidden)
        if not str(flat.dtype).startswith("float"):
            flat = keras.ops.cast(flat, "float32")
        model = keras.Model(inputs, layers.Dense(1, name="output")(flat))
        # Biases, moving means and gains start at 0 or 1, which would leave them untested.
        rng = np.random.default_rng(1)
        for weight in model.trainable_weights:
            if np.ptp(weight.numpy()) == 0:
                weight.assign(weight.numpy() + 0.2 * rng.random(weight.shape))
        return model

    def asked(self) -> Any:
        return self.rows(np.random.default_rng(2), (N_ROWS, *self.input_shape))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """As a version takes it: no feature has more than three axes."""
        return self.row_shape if len(self.row_shape) <= 3 else (math.prod(self.row_shape),)

    @property
    def signature(self) -> Signature:
        if len(self.input_shape) == 1:
            names = [f"x{i}" for i in range(self.input_shape[0])]
            return Signature(tuple(Feature(name, "numeric", (), (0.0, 1.0)) for name in names), "regression", "y")
        kind: Any = "series" if len(self.input_shape) == 2 else "image"
        return Signature((Feature("x", kind, self.row_shape, (0.0, 1.0)),), "regression", "y")


def _pixels(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.integers(0, 256, shape).astype(np.float32)


def _whole(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.integers(0, 7, shape).astype(np.float32)


def _gaps(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Series that end early: steps of zeros."""
    rows = rng.normal(size=shape).astype(np.float32)
    for row, length in zip(rows, rng.integers(3, shape[1] + 1, shape[0]), strict=True):
        row[length:] = 0.0
    return rows


def _ints(inputs: Any) -> Any:
    return keras.ops.cast(inputs, "int32")


def kinds() -> list[Kind]:
    """Every layer that takes numbers; those that Keras applies while it trains alone are the identity here."""
    found: list[Kind] = []

    def add(layer: str, shape: tuple[int, ...], apply: Callable[[Any], Any], note: str = "", rows: Any = None) -> None:
        found.append(Kind(layer, shape, apply, note=note, **({"rows": rows} if rows else {})))

    def of(layer: str, shape: tuple[int, ...], *given: Any, rows: Any = None, note: str = "", **settings: Any) -> None:
        add(layer, shape, lambda x: getattr(layers, layer)(*given, **settings)(x), note, rows)

    # Dense layers and what is put around them
    of("Dense", COLUMNS, 8)
    of("EinsumDense", SERIES, "abc,cd->abd", output_shape=(12, 7), bias_axes="d")
    of("Identity", COLUMNS)
    add("Embedding", COLUMNS, lambda x: layers.Embedding(7, 4)(x), rows=_whole)
    add("ReversibleEmbedding", COLUMNS, _reversible_embedding, rows=_whole)
    of("Masking", SERIES, rows=_gaps)
    add("SpectralNormalization", COLUMNS, lambda x: layers.SpectralNormalization(layers.Dense(4))(x))
    # Activations
    for name in sorted(_activations()):
        add("Activation", COLUMNS, lambda x, name=name: layers.Activation(name)(layers.Dense(8)(x)), name)
    add(
        "Activation",
        COLUMNS,
        lambda x: keras.activations.gelu(layers.Dense(8)(x), approximate=True),
        "gelu, approximate",
    )
    of("LeakyReLU", COLUMNS)
    of("PReLU", IMAGE, shared_axes=[1, 2])
    of("ELU", COLUMNS)
    of("ReLU", COLUMNS, max_value=1.0, negative_slope=0.1, threshold=0.2)
    of("Softmax", COLUMNS)
    # Convolutions
    for rank, shape in ((1, SERIES), (2, IMAGE), (3, VOLUME)):
        of(f"Conv{rank}D", shape, 4, 3, padding="same")
        of(f"Conv{rank}D", shape, 4, 3, dilation_rate=2, note="dilated")
        of(f"Conv{rank}D", shape, 4, 3, strides=2, padding="same", note="strides")
        of(f"Conv{rank}DTranspose", shape, 4, 3, strides=2, padding="same")
    of("Conv1D", SERIES, 4, 3, padding="causal", note="causal")
    of("Conv2D", (8, 8, 4), 6, 3, groups=2, note="groups")
    of("Conv2DTranspose", IMAGE, 4, 3, strides=2, padding="valid", note="valid")
    for rank, shape in ((1, SERIES), (2, IMAGE)):
        of(f"DepthwiseConv{rank}D", shape, 3, padding="same", depth_multiplier=2)
        of(f"SeparableConv{rank}D", shape, 4, 3, padding="same")
    for rank, shape in ((1, SERIES), (2, IMAGE), (3, VOLUME)):
        for kind in ("Max", "Average"):
            of(f"{kind}Pooling{rank}D", shape, 2)
            of(f"{kind}Pooling{rank}D", shape, 3, strides=2, padding="same", note="same")
            of(f"Global{kind}Pooling{rank}D", shape)
            of(f"Adaptive{kind}Pooling{rank}D", shape, 3)
        of(f"ZeroPadding{rank}D", shape, 2)
        of(f"Cropping{rank}D", shape, 1)
        of(f"UpSampling{rank}D", shape, 2)
    of("UpSampling2D", IMAGE, 2, interpolation="bilinear", note="bilinear")
    # Recurrence
    for layer in ("LSTM", "GRU", "SimpleRNN"):
        of(layer, SERIES, 4)
        of(layer, SERIES, 4, return_sequences=True, go_backwards=True, note="backwards")
        add(layer, SERIES, lambda x, layer=layer: getattr(layers, layer)(4)(layers.Masking()(x)), "masked", _gaps)
    of("LSTM", SERIES, 4, activation="relu", recurrent_activation="hard_sigmoid", note="relu")
    of("GRU", SERIES, 4, reset_after=False, note="reset before")
    for layer in ("LSTM", "GRU"):
        add("Bidirectional", SERIES, lambda x, layer=layer: layers.Bidirectional(getattr(layers, layer)(4))(x), layer)
    add("Bidirectional", SERIES, lambda x: layers.Bidirectional(layers.LSTM(4))(layers.Masking()(x)), "masked", _gaps)
    add(
        "RNN",
        SERIES,
        lambda x: layers.RNN(layers.StackedRNNCells([layers.GRUCell(4), layers.GRUCell(3)]))(x),
        "stacked",
    )
    add("RNN", SERIES, lambda x: layers.RNN([layers.LSTMCell(4), layers.SimpleRNNCell(3)])(x), "cells")
    add("TimeDistributed", SERIES, lambda x: layers.TimeDistributed(layers.Dense(3))(x))
    of("ConvLSTM1D", (4, 6, 2), 3, 3)
    of("ConvLSTM2D", FRAMES, 3, 3)
    of("ConvLSTM3D", (3, 4, 4, 4, 2), 2, 2)
    # Attention
    add("MultiHeadAttention", SERIES, lambda x: layers.MultiHeadAttention(2, 4)(x, x))
    add("MultiHeadAttention", SERIES, lambda x: layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True), "causal")
    add(
        "MultiHeadAttention",
        SERIES,
        lambda x: (m := layers.Masking()(x), layers.MultiHeadAttention(2, 4)(m, m))[1],
        "masked",
        _gaps,
    )
    add("GroupQueryAttention", SERIES, lambda x: layers.GroupQueryAttention(4, 4, 2)(x, x))
    add("Attention", SERIES, lambda x: layers.Attention(use_scale=True)([x, x]))
    add("AdditiveAttention", SERIES, lambda x: layers.AdditiveAttention()([x, x]))
    # Normalization
    of("BatchNormalization", IMAGE)
    of("LayerNormalization", SERIES)
    of("RMSNormalization", SERIES)
    of("GroupNormalization", (8, 8, 4), 2)
    of("UnitNormalization", COLUMNS)
    add("Normalization", COLUMNS, _adapted, "adapted")
    of("Normalization", COLUMNS, mean=[1.0, 2, 3, 4, 5, 6], variance=[1.0, 4, 9, 1, 4, 9], note="given")
    of("Normalization", IMAGE, axis=None, mean=120.0, variance=3000.0, note="one for all", rows=_pixels)
    of("Normalization", COLUMNS, mean=1.0, variance=4.0, invert=True, note="inverted")
    # Regularization: the identity where nothing is trained
    of("Dropout", COLUMNS, 0.5)
    for rank, shape in ((1, SERIES), (2, IMAGE), (3, VOLUME)):
        of(f"SpatialDropout{rank}D", shape, 0.5)
    of("AlphaDropout", COLUMNS, 0.5)
    of("GaussianDropout", COLUMNS, 0.5)
    of("GaussianNoise", COLUMNS, 0.5)
    of("ActivityRegularization", COLUMNS, 0.1)
    # Shapes, and several at once
    of("Reshape", SERIES, (6, 10))
    of("Flatten", IMAGE)
    of("Permute", SERIES, (2, 1))
    of("RepeatVector", COLUMNS, 3)
    for layer in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
        add(layer, COLUMNS, lambda x, layer=layer: getattr(layers, layer)()([layers.Dense(4)(x), layers.Dense(4)(x)]))
    add("Dot", COLUMNS, lambda x: layers.Dot(axes=1)([layers.Dense(4)(x), layers.Dense(4)(x)]))
    # Numbers made ready
    of("Rescaling", IMAGE, 1 / 127.5, offset=-1, rows=_pixels)
    of("Resizing", IMAGE, 5, 6, rows=_pixels)
    of("Resizing", IMAGE, 12, 12, interpolation="nearest", rows=_pixels, note="nearest")
    of("Resizing", IMAGE, 12, 16, interpolation="bicubic", rows=_pixels, note="bicubic")
    of("Resizing", IMAGE, 5, 5, antialias=True, rows=_pixels, note="antialiased")
    of("Resizing", IMAGE, 5, 6, crop_to_aspect_ratio=True, rows=_pixels, note="cropped")
    of("CenterCrop", IMAGE, 5, 5, rows=_pixels)
    of("Discretization", COLUMNS, bin_boundaries=[-1.0, 0.0, 1.0])
    of("Discretization", COLUMNS, bin_boundaries=[-1.0, 0.0, 1.0], output_mode="one_hot", note="one-hot")
    add(
        "CategoryEncoding",
        COLUMNS,
        lambda x: layers.CategoryEncoding(7, output_mode="multi_hot")(_ints(x)),
        "multi-hot",
        _whole,
    )
    add(
        "CategoryEncoding",
        (1,),
        lambda x: layers.CategoryEncoding(7, output_mode="one_hot")(_ints(x)),
        "one-hot",
        _whole,
    )
    add(
        "CategoryEncoding",
        COLUMNS,
        lambda x: layers.CategoryEncoding(7, output_mode="count")(_ints(x)),
        "count",
        _whole,
    )
    add("Hashing", COLUMNS, lambda x: layers.Hashing(5)(_ints(x)), rows=_whole)
    add("HashedCrossing", COLUMNS, lambda x: layers.HashedCrossing(5)([_ints(x[:, :1]), _ints(x[:, 1:2])]), rows=_whole)
    add("IntegerLookup", COLUMNS, lambda x: layers.IntegerLookup(vocabulary=[1, 3, 5])(_ints(x)), rows=_whole)
    add(
        "IntegerLookup",
        COLUMNS,
        lambda x: layers.IntegerLookup(vocabulary=[1, 3, 5], output_mode="multi_hot")(_ints(x)),
        "multi-hot",
        _whole,
    )
    of("MelSpectrogram", (512,), sequence_stride=128, fft_length=256, num_mel_bins=8)
    of("STFTSpectrogram", (512, 1), frame_length=128, frame_step=64, fft_length=128)
    # Pictures: random ones are the identity where nothing is trained, the others are not
    for layer, settings in _random_pictures().items():
        of(layer, IMAGE, rows=_pixels, **settings)
    of("Solarization", IMAGE, rows=_pixels)
    of("AutoContrast", IMAGE, value_range=(0, 255), rows=_pixels)
    of("ContrastLimitedAdaptiveHistogramEqualization", IMAGE, value_range=(0, 255), rows=_pixels)
    of("Equalization", IMAGE, value_range=(0, 255), rows=_pixels)
    add("Pipeline", IMAGE, lambda x: layers.Pipeline([layers.RandomFlip(), layers.Rescaling(1 / 255)])(x), rows=_pixels)
    return found


def _activations() -> list[str]:
    names = "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid"
    names += " log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus"
    return f"{names} sparse_sigmoid sparsemax squareplus tanh tanh_shrink".split()


def _random_pictures() -> dict[str, dict[str, Any]]:
    ranged: dict[str, Any] = {"value_range": (0, 255)}
    return {
        "RandomFlip": {},
        "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
        "RandomRotation": {"factor": 0.1},
        "RandomZoom": {"height_factor": 0.2},
        "RandomCrop": {"height": 8, "width": 8},
        "RandomContrast": {"factor": 0.2},
        "RandomBrightness": {"factor": 0.2},
        "RandomColorDegeneration": {"factor": 0.2},
        "RandomColorJitter": ranged,
        "RandomElasticTransform": ranged,
        "RandomErasing": {},
        "RandomGaussianBlur": {},
        "RandomGrayscale": {},
        "RandomHue": {"factor": 0.2, **ranged},
        "RandomInvert": ranged,
        "RandomPerspective": {},
        "RandomPosterization": {"factor": 4, **ranged},
        "RandomSaturation": {"factor": 0.2, **ranged},
        "RandomSharpness": {"factor": 0.2, **ranged},
        "RandomShear": {"x_factor": 0.2},
        "RandAugment": ranged,
        "AugMix": ranged,
        "CutMix": {},
        "MixUp": {},
    }


def _adapted(inputs: Any) -> Any:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(3).normal(3, 5, (100, inputs.shape[-1])))
    return layer(inputs)


def _reversible_embedding(inputs: Any) -> Any:
    layer = layers.ReversibleEmbedding(7, 4)
    return layer(layer(inputs), reverse=True)
