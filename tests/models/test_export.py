"""The ONNX export: kept when it says what Keras says, given up with a reason when it cannot be made."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.differences import hybrid_rows, largest_difference
from models.export import export_onnx
from models.inference import FixedBatches, keras_outputs
from models.invariance import SIZES, measure_invariance
from models.signature import Feature, Signature
from models.training import predict_raw

N_FEATURES = 4
FEATURES = tuple(Feature(f"x{i}", "numeric", (), (0.0, 1.0)) for i in range(N_FEATURES))
VALUE = Signature(FEATURES, "regression", "y")


def bent(values: Any) -> Any:
    """By an operation that ONNX does not have."""
    ops: Any = keras.ops
    return ops.erfinv(0.9 * ops.tanh(values))


@pytest.fixture(scope="module")
def rows() -> Any:
    scale, offset = np.array([1, 100, 0.01, 5]), np.array([0, 1000, 3, -7])
    return (np.random.default_rng(0).normal(size=(200, N_FEATURES)) * scale + offset).astype(np.float32)


def test_adapted_normalization_is_exported(rows: Any, tmp_path: Path) -> None:
    import onnxruntime

    normalization = keras.layers.Normalization(axis=-1)
    normalization.adapt(rows)
    model = network("relu", first=normalization)
    expected = predict_raw(model, rows)

    report = export_onnx(model, VALUE, tmp_path / "model.onnx", rows)

    assert ("onnxruntime", None, 200) == (report.engine, report.reason, report.rows_compared)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (exported,) = session.run(["output"], {session.get_inputs()[0].name: rows})
    np.testing.assert_allclose(exported, expected, atol=1e-5 * expected.std())
    assert 1e-5 >= report.max_difference["output"] == pytest.approx(np.abs(exported - expected).max() / expected.std())


def test_model_still_predicts_the_same_after_its_export(rows: Any, tmp_path: Path) -> None:
    normalization = keras.layers.Normalization(axis=-1)
    normalization.adapt(rows)
    model = network("relu", first=normalization)
    before = predict_raw(model, rows)

    export_onnx(model, VALUE, tmp_path / "model.onnx", rows)

    np.testing.assert_array_equal(before, predict_raw(model, rows))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(before, predict_raw(keras.saving.load_model(tmp_path / "model.keras"), rows))


@pytest.mark.parametrize("activation", ["gelu", "silu", "leaky_relu"])
def test_activation_is_exported_in_agreement(activation: str, rows: Any, tmp_path: Path) -> None:
    report = export_onnx(network(activation), VALUE, tmp_path / "model.onnx", rows / 1000)

    assert ("onnxruntime", None) == (report.engine, report.reason)


def test_operation_that_onnx_does_not_have_is_left_to_tensorflow(rows: Any, tmp_path: Path) -> None:
    report = export_onnx(network(bent), VALUE, tmp_path / "model.onnx", rows / 1000)

    assert "tensorflow" == report.engine
    assert report.reason is not None
    assert report.reason.startswith("the export failed: ")
    assert [] == list(tmp_path.iterdir())
    assert {"engine", "max_difference", "rows_compared", "reason", "batch_invariance"} == set(report.to_json())


def test_export_that_says_something_else_is_not_kept(rows: Any, tmp_path: Path) -> None:
    """Weights of 1e8 that cancel: the engines round differently, and only the rounding is left."""
    inputs = keras.Input((N_FEATURES,))
    linear = keras.layers.Dense(64, activation="sigmoid")
    last = keras.layers.Dense(1, name="output")
    model = keras.Model(inputs, last(linear(inputs)))
    signs = np.repeat([1e8, -1e8], 32)[:, np.newaxis]
    last.set_weights([signs, np.zeros(1)])
    kernel, bias = linear.get_weights()
    linear.set_weights([np.tile(kernel[:, :32], 2), bias])

    report = export_onnx(model, VALUE, tmp_path / "model.onnx", rows / 1000)

    assert "tensorflow" == report.engine
    assert report.reason == "the export differs from Keras by more than 1e-05 of an output's spread"
    assert report.max_difference["output"] > 1e-5
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("exported", "expected", "difference"),
    [
        ([[1.0], [3.0]], [[1.0], [3.0]], 0.0),
        ([[1.0], [3.5]], [[1.0], [3.0]], 0.5),  # the spread of 1 and 3 is 1
        ([[1.0], [np.nextafter(np.float32(3), 4)]], [[1.0], [3.0]], 0.0),
        ([[7.0], [7.0]], [[7.0], [7.0]], 0.0),  # a constant output
        ([[7.0], [np.nextafter(np.float32(7), 8)]], [[7.0], [7.0]], 0.0),
        ([[7.0], [7.1]], [[7.0], [7.0]], np.inf),
        ([[1.0], [np.nan]], [[1.0], [3.0]], np.inf),
        ([[1.0], [3.0]], [[1.0], [np.nan]], np.inf),
        ([[1.0], [np.nan]], [[1.0], [np.nan]], 0.0),
        ([[1.0], [np.inf]], [[1.0], [np.inf]], 0.0),
        ([[1.0], [-np.inf]], [[1.0], [np.inf]], np.inf),
        ([[0.0, 5.0], [0.0, 6.0]], [[0.0, 5.0], [0.0, 7.0]], 1.0),  # each column by its own spread
    ],
)
def test_a_difference_is_measured_in_spreads_and_what_is_no_number_never_agrees_with_one(
    exported: Any, expected: Any, difference: float
) -> None:
    exported, expected = np.array(exported, np.float32), np.array(expected, np.float32)

    found = largest_difference(exported, expected, expected)

    assert difference == found


def test_the_spread_is_that_of_the_background_not_of_the_rows_compared() -> None:
    expected, background = np.array([[0.0], [100.0]], np.float32), np.array([[0.0], [2.0]], np.float32)

    assert 0.5 == largest_difference(expected + 0.5, expected, background)


def test_an_engine_whose_values_follow_the_size_of_the_batch_or_the_place_in_it_is_found_out() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)

    def sums(batch: Any) -> Any:
        return batch.sum(axis=1, keepdims=True)

    def by_size(batch: Any) -> Any:
        return sums(batch) + (1e-7 if len(batch) == 7 else 0)

    def by_place(batch: Any) -> Any:
        return sums(batch) + 1e-3 * (np.arange(len(batch)) == 2048)[:, np.newaxis]

    def by_neighbour(batch: Any) -> Any:
        return sums(batch) * (1 + 1e-6 * (len(np.unique(batch)) > 30))

    found = [measure_invariance({1: {"value": call}}, rows) for call in (sums, by_size, by_place, by_neighbour)]
    by_threads = measure_invariance({1: {"value": sums}, 2: {"value": by_size}}, rows)

    assert [True, False, False, False] == [report.invariant for report in found]
    assert (SIZES, (1, 2), False) == (by_threads.sizes, by_threads.threads, by_threads.invariant)
    assert 0.0 == found[0].max_difference["value"]
    assert pytest.approx(1e-3, rel=1e-3) == found[2].max_difference["value"]


@pytest.mark.parametrize(("activation", "engine"), [("relu", "onnxruntime"), (bent, "tensorflow")])
def test_the_engine_that_serves_is_measured_for_batch_invariance(
    activation: Any, engine: str, rows: Any, tmp_path: Path
) -> None:
    report = export_onnx(network(activation), VALUE, tmp_path / "model.onnx", rows / 1000)

    assert engine == report.engine
    assert SIZES == report.batch_invariance.sizes
    assert (report.batch_invariance.max_difference["value"] == 0.0) == report.batch_invariance.invariant


def test_keras_is_called_with_few_sizes_and_the_padding_changes_no_value(rows: Any) -> None:
    model = network(bent)
    outputs = keras_outputs(model, VALUE)["value"]
    sizes_called = []
    counting = FixedBatches(lambda batch: sizes_called.append(len(batch)) or outputs(batch), (N_FEATURES,))
    sizes_called.clear()

    values = [counting(np.resize(rows, (n, N_FEATURES)) / 1000) for n in (1, 2, 9, 65, 600)]

    assert [1, 8, 64, 512, 512, 512] == sizes_called
    assert [1, 2, 9, 65, 600] == [len(found) for found in values]
    for found in values:
        np.testing.assert_allclose(
            found, predict_raw(model, np.resize(rows, (len(found), N_FEATURES)) / 1000), rtol=1e-5
        )


@pytest.mark.parametrize("shape", [(N_FEATURES,), (3, 3, 1)])
def test_hybrid_rows_take_each_element_from_a_row_or_from_the_background(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    rows, background = rng.random((20, *shape)), rng.random((5, *shape)) + 10

    hybrids = hybrid_rows(rows, background, 300, seed=0)

    assert (300, *shape) == hybrids.shape
    from_row = hybrids < 10
    for hybrid, mask in zip(hybrids, from_row, strict=True):
        assert any((hybrid[mask] == row[mask]).all() for row in rows)
        assert any((hybrid[~mask] == reference[~mask]).all() for reference in background)
    # Every share occurs, from nearly all of the row to nearly none of it.
    shares = from_row.reshape(300, -1).mean(axis=1)
    assert (shares.min(), shares.max()) == (0.0, 1.0)
    assert pytest.approx(0.5, abs=0.08) == shares.mean()


def test_hybrid_rows_follow_from_the_seed() -> None:
    rows, background = np.zeros((5, 3)), np.ones((5, 3))

    first, again, other = (hybrid_rows(rows, background, 50, seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def network(activation: Any, *, first: Any = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((N_FEATURES,))
    hidden = keras.layers.Dense(8, activation=activation)(first(inputs) if first else inputs)
    return keras.Model(inputs, keras.layers.Dense(1, name="output")(hidden))
