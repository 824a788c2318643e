"""Exported gradients: kept when they say what Keras says, and left to TensorFlow with a reason when they do not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.artifact import Artifact
from models.export import export_onnx
from models.gradient_export import GradientReport, export_gradients, keras_slopes, open_gradient
from models.invariance import BatchInvariance
from models.onnx_gradient import OnnxGradient, fitting_call_rows
from models.outputs import target_model
from models.signature import Feature, Signature

FEATURES = tuple(Feature(f"x{i}", "numeric", (), (-3.0, 3.0)) for i in range(4))
VALUE = Signature(FEATURES, "regression", "y")
ROWS = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
ALL_VERSIONS = ("digits_artifact", "diabetes_artifact", "breast_cancer_artifact")


@pytest.fixture(params=ALL_VERSIONS)
def version(request: pytest.FixtureRequest) -> Artifact:
    return request.getfixturevalue(request.param)


def test_slopes_of_every_target_and_output_are_those_of_keras(version: Artifact) -> None:
    signature, rows = version.signature, version.background[0][:40]
    targets = np.arange(len(signature.targets), dtype=np.int32)
    model = version.load_keras()
    for output in signature.outputs:
        gradient = opened(version, output)

        slopes = gradient(rows, np.tile(targets, (len(rows), 1)))

        expected = keras_slopes(target_model(model, signature, output), rows, targets).reshape(slopes.shape)
        np.testing.assert_allclose(slopes, expected, atol=2e-5 * np.abs(expected).max())


def test_card_says_what_was_found_of_the_gradient(version: Artifact) -> None:
    found = version.card["gradient"]

    assert ("onnxruntime", None) == (found["engine"], found["reason"])
    assert set(version.signature.outputs) == found["max_difference"].keys() == found["rows_at_kinks"].keys()
    assert all(difference <= 1e-4 for difference in found["max_difference"].values())
    assert 256 == found["rows_compared"]


def test_one_target_is_one_of_several_and_a_short_call_one_of_a_long_one(version: Artifact) -> None:
    gradient = opened(version, version.signature.outputs[0])
    rows = np.resize(version.background[0], (gradient.slice_rows, *version.signature.input_shape))
    targets = np.random.default_rng(0).integers(0, len(version.signature.targets), (len(rows), 2)).astype(np.int32)

    together = gradient(rows, targets)

    for place in range(2):
        alone = gradient(rows, np.ascontiguousarray(targets[:, place]))
        np.testing.assert_allclose(together[:, place], alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())
    few = gradient(rows[:7], targets[:7])
    np.testing.assert_allclose(together[:7], few, rtol=1e-4, atol=1e-5 * np.abs(few).max())


def test_slopes_do_not_depend_on_threads(digits_artifact: Artifact) -> None:
    rows = digits_artifact.background[0]
    targets = np.zeros(len(rows), np.int32)
    one, four = (open_gradient(digits_artifact, "probability", threads=threads) for threads in (1, 4))
    assert one is not None
    assert four is not None

    np.testing.assert_array_equal(one(rows, targets), four(rows, targets))


def test_a_gradient_that_fills_its_calls_gives_the_same_slopes(digits_artifact: Artifact) -> None:
    path = digits_artifact.gradient_path("probability")
    assert path is not None
    rows, targets = digits_artifact.background[0][:21], np.zeros((21, 3), np.int32)
    filling, plain = (
        OnnxGradient(path.read_bytes(), digits_artifact.signature, "probability", call_rows=16, fills=fills, threads=1)
        for fills in (True, False)
    )

    np.testing.assert_allclose(filling(rows, targets), plain(rows, targets), rtol=1e-5, atol=1e-7)


def test_a_gradient_whose_bits_depend_on_the_call_is_opened_to_fill_its_calls(digits_artifact: Artifact) -> None:
    card = digits_artifact.card
    sensitive = card["gradient"]["batch_invariance"] | {"max_difference": {"probability": 1e-8, "logit": 0.0}}
    version = replace(digits_artifact)
    version.__dict__["card"] = card | {"gradient": card["gradient"] | {"batch_invariance": sensitive}}

    fills = [opened(version, output)._fills for output in ("probability", "logit")]

    assert [True, False] == fills


def test_a_version_without_exported_gradients_opens_none(digits_artifact: Artifact) -> None:
    former = replace(digits_artifact, hashes={"model.onnx": digits_artifact.hashes["model.onnx"]})

    assert open_gradient(former, "probability", threads=1) is None


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [
        pytest.param(
            lambda x: x * keras.ops.stop_gradient(keras.ops.tanh(x)),
            "the gradient differs from Keras's by more than 0.0001 of its usual length",
            id="a gradient that was stopped on purpose",
        ),
        pytest.param(
            lambda x: keras.layers.LSTM(3)(keras.layers.Reshape((2, 2))(x)),
            "there is no rule for LSTM",
            id="a recurrence",
        ),
        pytest.param(lambda x: keras.ops.sign(x), "no path with slopes leads from its input", id="steps"),
    ],
)
def test_gradient_that_cannot_be_taken_is_left_to_tensorflow(hidden: Any, reason: str, tmp_path: Path) -> None:
    report = exported(hidden, tmp_path)

    assert "tensorflow" == report.engine
    assert report.reason is not None
    assert report.reason.startswith(reason)
    assert ["model.onnx"] == [path.name for path in tmp_path.iterdir()]


def test_no_export_no_exported_gradient(tmp_path: Path) -> None:
    report = exported(lambda x: keras.ops.erfinv(0.9 * keras.ops.tanh(x)), tmp_path)

    assert GradientReport("tensorflow", {}, 0, {}, reason="there is no ONNX export") == report
    assert [] == list(tmp_path.iterdir())


def test_rows_at_a_kink_do_not_count(tmp_path: Path) -> None:
    """With 64 units right at 0 for one row, rounding decides which of them are on."""
    row = ROWS[:1]
    first = keras.layers.Dense(64, activation="relu")

    def hidden(x: Any) -> Any:
        outputs = first(x)
        kernel, _ = first.get_weights()
        first.set_weights([kernel, -np.asarray(row @ kernel)[0]])
        return outputs

    report = exported(hidden, tmp_path)

    assert ("onnxruntime", None) == (report.engine, report.reason)
    assert report.rows_at_kinks["value"] <= 1


def test_equal_elements_in_a_window_are_not_mistaken_for_rare_kinks(tmp_path: Path) -> None:
    """The corner of every image is blank, so that its windows hold equal elements: both take the first."""
    keras.utils.set_random_seed(0)
    image = Signature((Feature("image", "image", (6, 6, 1), (0.0, 1.0)),), "regression", "y")
    rows = np.random.default_rng(0).random((100, 6, 6, 1)).astype(np.float32)
    rows[:, :4, :4] = 0
    inputs = keras.Input((6, 6, 1))
    hidden = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3, padding="same", bias_initializer="ones")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, name="output")(keras.layers.Flatten()(hidden)))
    export_onnx(model, image, tmp_path / "model.onnx", rows)

    report = export_gradients(model, image, tmp_path, rows, background=rows)

    assert ("onnxruntime", {"value": 0}) == (report.engine, report.rows_at_kinks)


@pytest.mark.parametrize(("units", "rows"), [(1, 1024), (2**12, 128), (2**30, 8)])
def test_calls_are_large_for_small_networks_and_small_for_large_ones(units: int, rows: int) -> None:
    assert rows == fitting_call_rows(units)


def test_report_is_json(tmp_path: Path) -> None:
    report = exported(keras.layers.Dense(4, activation="tanh"), tmp_path)

    assert isinstance(report.batch_invariance, BatchInvariance)
    assert {"engine", "call_rows", "slice_rows", "batch_invariance", "reason"} <= report.to_json().keys()
    assert {"model.onnx", "gradient-value.onnx"} == {path.name for path in tmp_path.iterdir()}


def exported(hidden: Any, folder: Path) -> GradientReport:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    outputs = hidden(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="output")(outputs))
    export_onnx(model, VALUE, folder / "model.onnx", ROWS)
    return export_gradients(model, VALUE, folder, ROWS, background=ROWS)


def opened(version: Artifact, output: str) -> OnnxGradient:
    gradient = open_gradient(version, output, threads=1)
    assert gradient is not None
    return gradient
