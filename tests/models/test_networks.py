"""Each key of an architecture and its regularization is found in the network; what is served is what was trained."""

import json
from math import erf
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from models.architectures.blocks import check_depth
from models.architectures.transformer import positions
from models.errors import InvalidDataset
from models.export import export_onnx
from models.networks import Networks, build_networks
from models.signature import Feature, Signature
from models.spec.network import ArchitectureSpec, RegularizationSpec
from models.training import predict_raw

SERIES = Signature((Feature("strokes", "series", (8, 4), (0.0, 1.0)),), "regression", "y")
IMAGE = Signature((Feature("image", "image", (8, 8, 1), (0.0, 1.0)),), "classification", "digit", tuple("012"))
COLUMNS = Signature(tuple(Feature(name, "numeric", (), (0.0, 1.0)) for name in "abcd"), "regression", "y")
WITHOUT = {"dropout": 0.0, "l2": 0.0}


@pytest.mark.parametrize(
    ("signature", "architecture", "expected"),
    [
        (COLUMNS, {"type": "mlp", "layers": [8, 4]}, ["Dense", "Dense"]),
        (
            COLUMNS,
            {"type": "mlp", "layers": [8], "normalization": "batch"},
            ["Dense", "BatchNormalization", "Activation"],
        ),
        (
            COLUMNS,
            {"type": "mlp", "layers": [8], "normalization": "layer"},
            ["Dense", "LayerNormalization", "Activation"],
        ),
        (SERIES, {"type": "mlp", "layers": [8]}, ["Flatten", "Dense"]),
        (IMAGE, {"type": "cnn", "layers": [4]}, ["Conv2D", "Conv2D", "Flatten", "Dense"]),
        (
            IMAGE,
            {"type": "cnn", "layers": [4, 6], "pooling": "average"},
            ["Conv2D", "Conv2D", "MaxPooling2D", "Conv2D", "Conv2D", "GlobalAveragePooling2D", "Dense"],
        ),
        (
            IMAGE,
            {"type": "cnn", "layers": [4], "residual": True},
            ["Conv2D", "Conv2D", "Conv2D", "Add", "Activation", "Flatten", "Dense"],
        ),
        (
            SERIES,
            {"type": "cnn-1d", "layers": [4, 4], "residual": True},
            [
                *("Conv1D", "Conv1D", "Add", "Activation", "MaxPooling1D", "Conv1D", "Conv1D", "Add", "Activation"),
                *("GlobalAveragePooling1D", "GlobalMaxPooling1D", "Concatenate"),
            ],
        ),
        (SERIES, {"type": "recurrent", "layers": [5], "cell": "simple"}, ["SimpleRNN"]),
        (SERIES, {"type": "recurrent", "layers": [5, 3], "cell": "gru"}, ["GRU", "GRU"]),
        (SERIES, {"type": "recurrent", "layers": [5]}, ["LSTM"]),
        (
            SERIES,
            {"type": "recurrent", "layers": [5], "bidirectional": True, "normalization": "layer"},
            ["Bidirectional", "LayerNormalization"],
        ),
        (
            SERIES,
            {"type": "transformer", "layers": [16], "width": 8, "heads": 2},
            [
                *("Dense", "Rescaling", "LayerNormalization", "MultiHeadAttention", "Add", "LayerNormalization"),
                *("Dense", "Dense", "Add", "LayerNormalization", "GlobalAveragePooling1D"),
            ],
        ),
    ],
    ids=str,
)
def test_network_has_the_layers_of_its_specification(
    signature: Signature, architecture: dict[str, Any], expected: list[str]
) -> None:
    networks = built(signature, architecture, WITHOUT)

    kinds = [type(layer).__name__ for layer in networks.trained.layers if layer.name not in ("logit", "output")]
    assert sorted(["InputLayer", *expected]) == sorted(kinds)
    assert signature.n_network_outputs == networks.served.output.shape[-1]


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", lambda z: np.maximum(z, 0)),
        ("leaky-relu", lambda z: np.where(z > 0, z, 0.2 * z)),
        ("gelu", lambda z: z * (1 + np.vectorize(erf)(z / 2**0.5)) / 2),
        ("silu", lambda z: z / (1 + np.exp(-z))),
        ("tanh", np.tanh),
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("linear", lambda z: z),
        ("softmax", lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
    ],
)
def test_activation_is_the_named_function(activation: str, function: Any) -> None:
    trained = built(COLUMNS, {"type": "mlp", "layers": [6], "activation": activation}, WITHOUT).trained
    hidden = trained.layers[1]
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    kernel, bias = hidden.get_weights()

    values = predict_raw(keras.Model(trained.input, hidden.output), rows)

    np.testing.assert_allclose(values, function((rows @ kernel + bias).astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize(
    "architecture",
    [
        {"type": "cnn-1d", "layers": [4], "activation": "silu"},
        {"type": "recurrent", "layers": [4], "cell": "gru"},
        {"type": "recurrent", "layers": [4], "bidirectional": True},
        {"type": "transformer", "layers": [8], "width": 8, "heads": 2},
    ],
    ids=str,
)
def test_network_of_series_is_saved_without_code_and_exported_in_agreement(
    architecture: dict[str, Any], tmp_path: Path
) -> None:
    served = built(SERIES, architecture, WITHOUT).served
    rows = np.random.default_rng(0).normal(size=(30, 8, 4)).astype(np.float32)
    served.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)

    report = export_onnx(loaded, SERIES, tmp_path / "model.onnx", rows)

    np.testing.assert_array_equal(predict_raw(served, rows), predict_raw(loaded, rows))
    assert ("onnxruntime", None) == (report.engine, report.reason)
    assert report.max_difference["output"] is not None
    assert report.max_difference["output"] <= 1e-5


def test_dropout_and_penalties_are_on_every_layer() -> None:
    trained = built(COLUMNS, {"type": "mlp", "layers": [8, 4]}, {"dropout": 0.3, "l1": 0.01, "l2": 0.02}).trained

    assert [0.3, 0.3] == [layer.rate for layer in trained.layers if isinstance(layer, keras.layers.Dropout)]
    penalties = [layer.kernel_regularizer for layer in trained.layers if getattr(layer, "kernel_regularizer", None)]
    assert [(0.01, 0.02)] * 2 == [pytest.approx((float(each.l1), float(each.l2))) for each in penalties]


@pytest.mark.parametrize(
    ("augmentation", "kind"),
    [
        ({"type": "flip", "direction": "both"}, "RandomFlip"),
        ({"type": "shift", "fraction": 0.3}, "RandomTranslation"),
        ({"type": "rotate", "degrees": 40}, "RandomRotation"),
        ({"type": "zoom", "fraction": 0.3}, "RandomZoom"),
        ({"type": "noise", "deviation": 0.2}, "GaussianNoise"),
    ],
    ids=lambda value: str(value),
)
def test_augmentation_changes_rows_while_training_and_is_absent_from_what_is_served(
    augmentation: dict[str, Any], kind: str
) -> None:
    keras.utils.set_random_seed(0)
    networks = built(IMAGE, {"type": "cnn", "layers": [4]}, {**WITHOUT, "augmentation": [augmentation]})
    rows = np.random.default_rng(0).random((40, 8, 8, 1)).astype(np.float32)
    layer = next(layer for layer in networks.trained.layers if type(layer).__name__ == kind)

    changed = np.asarray(layer(rows, training=True))

    assert np.abs(changed - rows).max() > 0.01
    np.testing.assert_allclose(np.asarray(layer(rows, training=False)), rows)
    assert kind not in {type(layer).__name__ for layer in networks.served.layers}
    networks.take_over([weight + 0.1 for weight in networks.trained.get_weights()])
    np.testing.assert_allclose(predict_raw(networks.trained, rows), predict_raw(networks.served, rows), atol=1e-6)


@pytest.mark.parametrize(("architecture", "masked"), [("recurrent", True), ("transformer", True), ("cnn-1d", False)])
def test_steps_behind_the_words_of_a_text_are_left_out(architecture: str, masked: bool) -> None:
    """Whatever attention or a state would make of them: with a mask, only the words count."""
    text = Signature((Feature("note", "text", (6,), (0.0, 9.0), vocabulary=("a", "b")),), "regression", "y")
    keys = {"type": architecture, "layers": [4]}
    inputs = keras.Input((6, 4))
    spec: Any = TypeAdapter(ArchitectureSpec).validate_json(json.dumps(keys))
    without = RegularizationSpec.model_validate(WITHOUT)
    words = np.random.default_rng(0).normal(size=(1, 6, 4)).astype(np.float32)
    words[:, 3:] = 0

    of_text = build_networks(inputs, inputs, spec, without, text, scale=(0.0, 1.0)).trained
    of_series = build_networks(inputs, inputs, spec, without, SERIES, scale=(0.0, 1.0)).trained
    of_series.set_weights(of_text.get_weights())

    assert masked == ("Masking" in {type(layer).__name__ for layer in of_text.layers})
    assert masked == (abs(predict_raw(of_text, words) - predict_raw(of_series, words)).max() > 1e-6)


def test_network_that_differs_in_nothing_is_one() -> None:
    networks = built(IMAGE, {"type": "cnn", "layers": [4]}, WITHOUT)

    assert networks.trained is networks.served


@pytest.mark.parametrize(("cells", "deepest"), [((8, 8), 4), ((9, 5), 3), ((1,), 1), ((64,), 7)])
def test_network_too_deep_for_its_input_is_refused_with_the_depth_that_fits(
    cells: tuple[int, ...], deepest: int
) -> None:
    check_depth(cells, deepest)

    with pytest.raises(InvalidDataset, match=rf"Expected at most {deepest} numbers in architecture\.layers"):
        check_depth(cells, deepest + 1)


def test_network_too_deep_for_its_image_is_not_built() -> None:
    with pytest.raises(InvalidDataset, match=r"5 blocks halve 8 x 8 pixels 4 times.*Expected at most 4 numbers"):
        built(IMAGE, {"type": "cnn", "layers": [2] * 5}, WITHOUT)


def test_positions_are_those_of_the_paper_and_all_different() -> None:
    offsets = positions(20, 8)

    assert (20, 8) == offsets.shape
    np.testing.assert_allclose(offsets[3, [0, 4]], [np.sin(3), np.cos(3)], rtol=1e-6)
    np.testing.assert_allclose(offsets[3, [1, 5]], [np.sin(0.3), np.cos(0.3)], rtol=1e-6)
    assert 20 == len(np.unique(offsets, axis=0))


def built(signature: Signature, architecture: dict[str, Any], regularization: dict[str, Any]) -> Networks:
    spec: Any = TypeAdapter(ArchitectureSpec).validate_json(json.dumps(architecture))
    inputs = keras.Input(signature.input_shape)
    given = RegularizationSpec.model_validate_json(json.dumps(regularization))
    return build_networks(inputs, inputs, spec, given, signature, scale=(0.0, 1.0))
