"""Gradients of exported networks against Keras's, for each kind of layer that explanations cope with."""

import warnings
from typing import Any

import numpy as np
import pytest
from layer_networks import Network, networks

from models.differentiation.reverse import differentiate
from models.errors import NotDifferentiableHere
from models.export import OPSET
from models.gradient_export import keras_slopes
from models.inference import open_session
from models.onnx_operations import HANDLERS

NOT_DIFFERENTIATED = {
    "`LSTM`": "LSTM",
    "`GRU`": "Loop",
    "`Bidirectional` LSTM": "LSTM",
    "`Embedding`": "no path",
    "`Embedding`, `Conv1D`": "no path",
}


@pytest.fixture(scope="module")
def every_network() -> list[Network]:
    return networks()


def test_slopes_of_each_layer_are_those_of_keras_or_it_is_refused_by_name(every_network: list[Network]) -> None:
    differences, refusals = {}, {}
    for network in every_network:
        try:
            graph = differentiate(exported(network), "output")
        except NotDifferentiableHere as refusal:
            refusals[network.layer] = refusal.reason
            continue
        rows = np.random.default_rng(4).normal(size=(12, *network.row_shape)).astype(np.float32)
        session = open_session(graph, threads=1)
        ones = np.ones((1, len(rows), 1), np.float32)
        slopes = session.run(["slopes"], {session.get_inputs()[0].name: rows, "cotangents": ones})[0][0]
        expected = keras_slopes(network.model, rows, np.zeros(1, np.int32)).reshape(slopes.shape)
        differences[network.layer] = np.abs(slopes - expected).max() / np.abs(expected).max()

    assert len(every_network) == len(differences) + len(refusals)
    assert NOT_DIFFERENTIATED.keys() == refusals.keys()
    assert all(reason in refusals[layer] for layer, reason in NOT_DIFFERENTIATED.items())
    assert {} == {layer: difference for layer, difference in differences.items() if difference > 2e-5}


def exported(network: Network) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf
        import tf2onnx

        model: Any = network.model
        spec = [tf.TensorSpec((None, *network.row_shape), tf.as_dtype(model.inputs[0].dtype), name="rows")]
        function = tf.function(lambda rows: {"output": model(rows, training=False)}, input_signature=spec)
        proto, _ = tf2onnx.convert.from_function(
            function, input_signature=spec, opset=OPSET, custom_op_handlers=HANDLERS
        )
    return proto.SerializeToString()
