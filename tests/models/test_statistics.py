"""Figures of layers: as computed by hand, and without any effect on the fit."""

from typing import Any

import keras
import numpy as np
import pytest

from models.statistics import Probe, is_measured


def test_figures_of_a_small_network_are_those_by_hand() -> None:
    """y = relu(x W) v on two rows; of three units the last is dead."""
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(3, activation="relu", use_bias=False, name="hidden")
    last = keras.layers.Dense(1, use_bias=False, name="logit")
    network: Any = keras.Model(inputs, last(hidden(inputs)))
    hidden.set_weights([np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]], np.float32)])
    last.set_weights([np.array([[2.0], [1.0], [5.0]], np.float32)])
    network.compile(optimizer="sgd", loss=keras.losses.MeanSquaredError())
    rows, targets = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32), np.array([3.0, 7.0], np.float32)

    found = Probe(network, rows, targets)()

    # Outputs 4 and 6, errors 1 and -1: the loss's slope by the outputs is (1, -1). By v: (1 - 3, 2 - 0, 0).
    by_hidden = np.array([[1 * 2 - 3 * 2, 1 * 1, 0], [2 * 2, 2 * 1, 0]], float)  # unit 2 of row 2 is 0: no slope
    assert ["hidden", "logit"] == list(found)
    assert pytest.approx(np.sqrt((4 + 4 + 0) / 3)) == found["logit"]["gradient"]
    assert pytest.approx(np.sqrt((by_hidden**2).mean())) == found["hidden"]["gradient"]
    values = np.array([[1, 2, 0], [3, 0, 0]], float)
    assert pytest.approx(values.mean()) == found["hidden"]["activation_mean"]
    assert pytest.approx(values.std()) == found["hidden"]["activation_deviation"]
    assert pytest.approx(1 / 3) == found["hidden"]["dead"]
    assert "saturated" not in found["hidden"]


def test_values_behind_a_normalization_are_those_that_are_activated_and_saturation_is_counted() -> None:
    inputs = keras.Input((1,))
    dense = keras.layers.Dense(1, use_bias=False, name="hidden")
    hidden = keras.layers.Activation("tanh")(keras.layers.BatchNormalization()(dense(inputs)))
    network: Any = keras.Model(inputs, keras.layers.Dense(1, name="logit")(hidden))
    dense.set_weights([np.array([[1.0]], np.float32)])
    network.compile(optimizer="sgd", loss=keras.losses.MeanSquaredError())
    rows = np.array([[0.0], [5.0], [-5.0], [0.1]], np.float32)

    found = Probe(network, rows, np.zeros(4, np.float32))()

    assert ["hidden", "logit"] == list(found)
    assert pytest.approx(0.5) == found["hidden"]["saturated"]


def test_measuring_changes_nothing_of_the_network() -> None:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(4)(inputs)))
    network: Any = keras.Model(inputs, keras.layers.Dense(1, name="logit")(hidden))
    network.compile(optimizer="adam", loss=keras.losses.MeanSquaredError())
    before = [np.asarray(variable) for variable in network.variables]
    probe = Probe(network, np.ones((5, 3), np.float32), np.zeros(5, np.float32))

    first, again = probe(), probe()

    assert first == again
    for old, variable in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(old, np.asarray(variable))


def test_figure_that_is_no_number_is_left_out() -> None:
    inputs = keras.Input((1,))
    last = keras.layers.Dense(1, name="logit")
    network: Any = keras.Model(inputs, last(inputs))
    last.set_weights([np.array([[np.nan]], np.float32), np.zeros(1, np.float32)])
    network.compile(optimizer="sgd", loss=keras.losses.MeanSquaredError())

    assert {"logit": {}} == Probe(network, np.ones((2, 1), np.float32), np.zeros(2, np.float32))()


def test_long_fits_are_measured_less_and_less_often() -> None:
    measured = [epoch for epoch in range(1, 3001) if is_measured(epoch)]

    assert list(range(1, 101)) == measured[:100]
    assert list(range(110, 1001, 10)) == measured[100:190]
    assert list(range(1100, 3001, 100)) == measured[190:]
