"""ONNX for TensorFlow's operations that tf2onnx has none for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

_RESIZING_FLAGS = ("align_corners", "half_pixel_centers", "antialias")
Handler = tuple[Callable[[Any, Any, str, Any], Any], list[Any]]


def _erfc(graph: Any, node: Any, name: str, _arguments: Any) -> Any:
    """erfc(x) as 1 - erf(x): Keras computes GELU by it."""
    (values,) = node.input
    erf = graph.make_node("Erf", [values])
    return _put(graph, node, "Sub", [_one(graph, name), erf.output[0]])


def _expm1(graph: Any, node: Any, name: str, _arguments: Any) -> Any:
    """exp(x) - 1 as tanh(x / 2) (exp(x) + 1), which loses nothing near 0 nor far from it. CELU is computed by it."""
    (values,) = node.input
    half = graph.make_node("Mul", [values, _constant(graph, f"{name}_half", 0.5)])
    tanh = graph.make_node("Tanh", [half.output[0]])
    exp = graph.make_node("Exp", [values])
    above = graph.make_node("Add", [exp.output[0], _one(graph, name)])
    return _put(graph, node, "Mul", [tanh.output[0], above.output[0]])


def _log1p(graph: Any, node: Any, name: str, _arguments: Any) -> Any:
    """log(1 + x); near 0, where 1 + x has lost most of x, as 2 artanh(x / (2 + x))."""
    (values,) = node.input
    small = graph.make_node(
        "Less", [graph.make_node("Abs", [values]).output[0], _constant(graph, f"{name}_small", 0.5)]
    )
    above = graph.make_node("Add", [values, _constant(graph, f"{name}_two", 2.0)])
    # Not taken where it is not small: there it may be no number at all, and is 0 instead.
    part = graph.make_node("Div", [values, above.output[0]])
    kept = graph.make_node("Where", [small.output[0], part.output[0], _constant(graph, f"{name}_zero", 0.0)])
    half = graph.make_node("Atanh", [kept.output[0]])
    near = graph.make_node("Mul", [half.output[0], _constant(graph, f"{name}_twice", 2.0)])
    far = graph.make_node("Log", [graph.make_node("Add", [values, _one(graph, name)]).output[0]])
    return _put(graph, node, "Where", [small.output[0], near.output[0], far.output[0]])


def _bucketize(graph: Any, node: Any, name: str, _arguments: Any) -> Any:
    """How many boundaries are at or below a value: as many as there are, less those above. NaN is below none."""
    (values,) = node.input
    boundaries = np.array(node.get_attr("boundaries").floats, np.float32)
    last = graph.make_const(f"{name}_last", np.array([-1], np.int64)).output[0]
    each = graph.make_node("Unsqueeze", [values, last])
    above = graph.make_node("Less", [each.output[0], graph.make_const(f"{name}_boundaries", boundaries).output[0]])
    counted = graph.make_node("Cast", [above.output[0]], attr={"to": TensorProto.INT32})
    count = graph.make_node("ReduceSum", [counted.output[0], last], attr={"keepdims": 0})
    total = graph.make_const(f"{name}_total", np.array(len(boundaries), np.int32)).output[0]
    return _put(graph, node, "Sub", [total, count.output[0]])


def _resized(graph: Any, node: Any, name: str, _arguments: Any) -> Any:
    """Images of another size, by two products with matrices.

    Resizing is linear, along one axis after the other. Its weights are what TensorFlow makes of pictures of one bright
    line: ONNX's own rounds them otherwise (bicubic), or not at all as TensorFlow does (antialiasing).
    """
    import tensorflow as tf

    images = node.input[0]
    height, width = graph.get_shape(images)[1:3]
    sizes = [int(size) for size in node.inputs[1].get_tensor_value()]
    flags = {key: bool(node.get_attr_value(key)) for key in _RESIZING_FLAGS if key in node.attr}

    def resized(lines: Any, size: list[int]) -> Any:
        if node.type == "ResizeBicubic":
            return tf.raw_ops.ResizeBicubic(images=lines, size=size, **flags)
        scale = np.array(size, np.float32) / np.array(lines.shape[1:3], np.float32)
        kernel = node.get_attr_value("kernel_type")
        name_of_kernel = kernel.decode() if isinstance(kernel, bytes) else kernel
        return tf.raw_ops.ScaleAndTranslate(
            images=lines, size=size, scale=scale, translation=[0.0, 0.0], kernel_type=name_of_kernel, **flags
        )

    # A conversion goes on within a graph, where nothing is computed: this takes one of its own.
    with tf.Graph().as_default() as weights, tf.compat.v1.Session(graph=weights) as session:
        rows = resized(np.eye(height, dtype=np.float32).reshape(1, height, 1, height), [sizes[0], 1])
        columns = resized(np.eye(width, dtype=np.float32).reshape(1, 1, width, width), [1, sizes[1]])
        rows, columns = session.run((rows, columns))
    down = graph.make_const(f"{name}_rows", rows[0, :, 0]).output[0]
    across = graph.make_const(f"{name}_columns", columns[0, 0].T.copy()).output[0]
    first = graph.make_node("Transpose", [images], attr={"perm": [0, 3, 1, 2]})
    taller = graph.make_node("MatMul", [down, first.output[0]])
    wider = graph.make_node("MatMul", [taller.output[0], across])
    shapes, types, outputs = node.output_shapes, node.output_dtypes, list(node.output)
    graph.remove_node(node.name)
    return graph.make_node(
        "Transpose", [wider.output[0]], attr={"perm": [0, 2, 3, 1]}, outputs=outputs, shapes=shapes, dtypes=types
    )


def _constant(graph: Any, name: str, value: float) -> str:
    return graph.make_const(name, np.array(value, np.float32)).output[0]


def _one(graph: Any, name: str) -> str:
    return _constant(graph, f"{name}_one", 1.0)


def _put(graph: Any, node: Any, operation: str, inputs: list[str]) -> Any:
    """An ONNX operation in the place of a node."""
    shapes, types, outputs = node.output_shapes, node.output_dtypes, list(node.output)
    graph.remove_node(node.name)
    return graph.make_node(operation, inputs, outputs=outputs, shapes=shapes, dtypes=types)


HANDLERS: dict[str, Handler] = {
    "Bucketize": (_bucketize, []),
    "Erfc": (_erfc, []),
    "Expm1": (_expm1, []),
    "Log1p": (_log1p, []),
    "ResizeBicubic": (_resized, []),
    "ScaleAndTranslate": (_resized, []),
}
