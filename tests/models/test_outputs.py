"""From the network's units to one column per target, above all log-odds where probabilities have saturated."""

from typing import Any

import numpy as np
import pytest

from models.outputs import log_odds, target_columns
from models.signature import Feature, Signature

FEATURES = (Feature("x", "numeric", (), (0.0, 1.0)),)
BINARY = Signature(FEATURES, "classification", "y", ("no", "yes"))
THREE = Signature(FEATURES, "classification", "y", ("a", "b", "c"))
VALUE = Signature(FEATURES, "regression", "y")

LOGITS = [
    pytest.param([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.25]], id="moderate"),
    pytest.param([[60.0, 0.0, -1.0], [0.0, 60.0, 1.0], [-60.0, 0.0, -60.0]], id="gaps of 60"),
    pytest.param([[200.0, -200.0, 0.0], [-1000.0, -1060.0, -1120.0]], id="gaps beyond float32's exponents"),
    pytest.param([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]], id="all tie"),
    pytest.param([[5.0, 5.0, 1.0], [1.0, 5.0, 5.0], [90.0, 90.0, -90.0]], id="two tie at the top"),
    pytest.param([[9.0, 1.0, 1.0], [60.0, -3.0, -3.0]], id="two tie below the top"),
    pytest.param([[5.0, 4.999999, -5.0]], id="nearly tie"),
]


@pytest.mark.parametrize("logits", LOGITS)
def test_log_odds_agree_with_float64(logits: list[list[float]]) -> None:
    given = np.array(logits, dtype=np.float32)

    computed = np.asarray(log_odds(given))

    np.testing.assert_allclose(computed, reference_log_odds(given), rtol=2e-6, atol=2e-6)


def test_log_odds_of_many_random_logits_agree_with_float64() -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(2000, 10)) * rng.choice([0.1, 1, 10, 60], size=(2000, 1))).astype(np.float32)

    computed = np.asarray(log_odds(logits))

    np.testing.assert_allclose(computed, reference_log_odds(logits), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("logits", LOGITS)
def test_gradient_of_log_odds_is_finite_and_right_where_probabilities_saturate(logits: list[list[float]]) -> None:
    import tensorflow as tf

    given = np.array(logits, dtype=np.float32)
    variable = tf.constant(given)
    for label in range(3):
        with tf.GradientTape() as tape:
            tape.watch(variable)
            chosen = log_odds(variable)[:, label]

        slopes = tape.gradient(chosen, variable).numpy()

        others = np.delete(given.astype(np.float64), label, axis=1)
        shares = np.exp(others - others.max(axis=1, keepdims=True))
        expected = np.insert(-shares / shares.sum(axis=1, keepdims=True), label, 1.0, axis=1)
        np.testing.assert_allclose(slopes, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("units", "signature", "output", "expected"),
    [
        pytest.param([[0.25], [1.0]], BINARY, "probability", [[0.75, 0.25], [0.0, 1.0]], id="sigmoid"),
        pytest.param([[1.5], [-60.0]], BINARY, "logit", [[-1.5, 1.5], [60.0, -60.0]], id="log-odds of a sigmoid"),
        pytest.param([[0.2, 0.3, 0.5]], THREE, "probability", [[0.2, 0.3, 0.5]], id="softmax"),
        pytest.param([[1.0, -2.0, 0.5]], THREE, "logit", [[1.0, -2.0, 0.5]], id="log-odds of a softmax"),
        pytest.param([[151.0]], VALUE, "value", [[151.0]], id="value"),
    ],
)
def test_units_become_one_column_per_target(
    units: list[list[float]], signature: Signature, output: str, expected: list[list[float]]
) -> None:
    columns = target_columns(np.array(units), signature, output)

    np.testing.assert_array_equal(expected, columns)
    assert (len(units), len(signature.targets)) == columns.shape


@pytest.mark.parametrize("artifact", ["digits_artifact", "breast_cancer_artifact"])
def test_log_odds_of_a_trained_network_are_those_of_its_probabilities(
    artifact: str, request: pytest.FixtureRequest
) -> None:
    from models.outputs import target_model

    version = request.getfixturevalue(artifact)
    model, rows = version.load_keras(), version.background[0]

    probabilities, logits = (
        np.asarray(target_model(model, version.signature, output)(rows), dtype=np.float64)
        for output in ("probability", "logit")
    )

    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (len(rows), len(version.signature.labels)) == logits.shape


def reference_log_odds(logits: Any) -> Any:
    """z_k - log(sum of exp(z_j) over the others), in float64."""
    logits = logits.astype(np.float64)
    columns = []
    for label in range(logits.shape[1]):
        others = np.delete(logits, label, axis=1)
        largest = others.max(axis=1, keepdims=True)
        columns.append(logits[:, label] - largest[:, 0] - np.log(np.exp(others - largest).sum(axis=1)))
    return np.column_stack(columns)
