"""Slopes of sums, means, maxima and what is made of them: softmax, normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from models.differentiation.rules import Cotangents, attribute, rule
from models.differentiation.tape import FLOAT, Tape


def _axes(tape: Tape, node: onnx.NodeProto) -> list[int]:
    """The reduced axes, counted from the end; of older operations they are an attribute."""
    rank = len(tape.shape(node.input[0]))
    given: Any = attribute(node, "axes", None)
    if given is None and (value := tape.known_value(node, 1)) is not None:
        given = value.reshape(-1).tolist()
    if not given:
        return [] if attribute(node, "noop_with_empty_axes", 0) else list(range(-rank, 0))
    return [axis % rank - rank for axis in given]


def _kept(tape: Tape, node: onnx.NodeProto, name: str) -> str:
    """What a reduction gave, or its cotangent, with the reduced axes there again, of size 1."""
    axes = _axes(tape, node)
    return name if attribute(node, "keepdims", 1) or not axes else tape.emit("Unsqueeze", name, tape.whole(*axes))


def _n_reduced(tape: Tape, node: onnx.NodeProto) -> int:
    return int(np.prod(tape.sizes(node.input[0], _axes(tape, node))))


@rule("ReduceSum")
def _sum(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    return [tape.expanded(_kept(tape, node, str(cotangents[0])), node.input[0])]


@rule("ReduceMean")
def _mean(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    share = tape.emit("Mul", str(cotangents[0]), tape.constant(1 / _n_reduced(tape, node)))
    return [tape.expanded(_kept(tape, node, share), node.input[0])]


@rule("GlobalAveragePool")
def _global_mean(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    rank = len(tape.shape(node.input[0]))
    n_positions = int(np.prod(tape.sizes(node.input[0], range(2, rank))))
    share = tape.emit("Mul", str(cotangents[0]), tape.constant(1 / n_positions))
    return [tape.expanded(share, node.input[0])]


@rule("ReduceMax", "ReduceMin")
def _extreme(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Equal extremes share alike, as in TensorFlow."""
    x, axes = node.input[0], tape.whole(*_axes(tape, node))
    is_it = tape.emit("Equal", x, _kept(tape, node, node.output[0]))
    ones = tape.emit("Cast", is_it, to=FLOAT)
    shares = tape.emit("Div", ones, tape.emit("ReduceSum", ones, axes, keepdims=1))
    return [tape.emit("Mul", _kept(tape, node, str(cotangents[0])), shares)]


@rule("GlobalMaxPool")
def _global_max(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    x = node.input[0]
    ones = tape.emit("Cast", tape.emit("Equal", x, node.output[0]), to=FLOAT)
    axes = tape.whole(*range(2 - len(tape.shape(x)), 0))
    shares = tape.emit("Div", ones, tape.emit("ReduceSum", ones, axes, keepdims=1))
    return [tape.emit("Mul", str(cotangents[0]), shares)]


@rule("ReduceProd")
def _product(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """The product of the others, which is exact where none is 0; where one is, there is no number."""
    whole = tape.emit("Mul", _kept(tape, node, str(cotangents[0])), _kept(tape, node, node.output[0]))
    return [tape.emit("Div", whole, node.input[0])]


@rule("ReduceSumSquare")
def _sum_of_squares(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    doubled = tape.emit("Mul", node.input[0], tape.constant(2.0))
    return [tape.emit("Mul", _kept(tape, node, str(cotangents[0])), doubled)]


@rule("ReduceL1")
def _length_by_steps(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    return [tape.emit("Mul", _kept(tape, node, str(cotangents[0])), tape.emit("Sign", node.input[0]))]


@rule("ReduceL2")
def _length(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    direction = tape.emit("Div", node.input[0], _kept(tape, node, node.output[0]))
    return [tape.emit("Mul", _kept(tape, node, str(cotangents[0])), direction)]


@rule("ReduceLogSum")
def _logarithm_of_sum(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    total = tape.emit("Exp", _kept(tape, node, node.output[0]))
    return [tape.expanded(tape.emit("Div", _kept(tape, node, str(cotangents[0])), total), node.input[0])]


@rule("ReduceLogSumExp")
def _soft_maximum(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    shares = tape.emit("Exp", tape.emit("Sub", node.input[0], _kept(tape, node, node.output[0])))
    return [tape.emit("Mul", _kept(tape, node, str(cotangents[0])), shares)]


@rule("Softmax")
def _softmax(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    y, cotangent, axis = node.output[0], str(cotangents[0]), tape.whole(_one_axis(tape, node))
    mean = tape.emit("ReduceSum", tape.emit("Mul", cotangent, y), axis, keepdims=1)
    return [tape.emit("Mul", tape.emit("Sub", cotangent, mean), y)]


@rule("LogSoftmax")
def _log_softmax(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    cotangent, axis = str(cotangents[0]), tape.whole(_one_axis(tape, node))
    total = tape.emit("ReduceSum", cotangent, axis, keepdims=1)
    return [tape.emit("Sub", cotangent, tape.emit("Mul", tape.emit("Exp", node.output[0]), total))]


def _one_axis(tape: Tape, node: onnx.NodeProto) -> int:
    rank = len(tape.shape(node.input[0]))
    return attribute(node, "axis", -1) % rank - rank


@rule("BatchNormalization")
def _batch_normalization(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """With the statistics that it was trained with: a factor for each channel."""
    scale, variance = tape.known_value(node, 1), tape.known_value(node, 4)
    assert scale is not None
    assert variance is not None
    factor = scale / np.sqrt(variance + np.float32(attribute(node, "epsilon", 1e-5)))
    n_positions = len(tape.shape(node.input[0])) - 2
    back = tape.emit("Mul", str(cotangents[0]), tape.constant(factor.reshape(-1, *[1] * n_positions)))
    return [back, *[None] * (len(node.input) - 1)]


@rule("LayerNormalization")
def _layer_normalization(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """(x - mean) / deviation * scale, over the axes from `axis` on."""
    x = node.input[0]
    rank = len(tape.shape(x))
    axes = tape.whole(*range(attribute(node, "axis", -1) % rank - rank, 0))
    centred = tape.emit("Sub", x, tape.emit("ReduceMean", x, axes, keepdims=1))
    variance = tape.emit("ReduceMean", tape.emit("Mul", centred, centred), axes, keepdims=1)
    deviation = tape.emit("Sqrt", tape.emit("Add", variance, tape.constant(attribute(node, "epsilon", 1e-5))))
    normal = tape.emit("Div", centred, deviation)
    scaled = tape.emit("Mul", str(cotangents[0]), node.input[1])
    along = tape.emit("Mul", normal, tape.emit("ReduceMean", tape.emit("Mul", scaled, normal), axes, keepdims=1))
    level = tape.emit("ReduceMean", scaled, axes, keepdims=1)
    back = tape.emit("Div", tape.emit("Sub", tape.emit("Sub", scaled, level), along), deviation)
    return [back, *[None] * (len(node.input) - 1)]
