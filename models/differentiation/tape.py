"""What the rules of differentiation write on: a graph that is known in its shapes, and grows backwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.errors import NotDifferentiableHere

Shape = tuple[int | None, ...]
"""Sizes of the axes; None where a size is only known when the graph runs."""

OPSET = 18
IR_VERSION = 8
FLOAT = onnx.TensorProto.FLOAT


class Tape:
    """A graph, and the nodes that are added to it for its gradient.

    Tensors are named. The cotangent of a tensor of shape `s` is the tensor `(n_targets, *s)`: what the targets change
    by for each of its elements. Targets lie on an axis of their own in front, so that values of the forward pass,
    which do not have it, are broadcast and computed once for all targets. Rules name axes from the end, where they
    are the same for a tensor and its cotangent.

    Args:
        graph: with inferred shapes.
        seed: the name of the cotangents of the output.
        active: the tensors whose cotangents are of use.
    """

    def __init__(self, graph: onnx.GraphProto, seed: str) -> None:
        self._graph, self._seed = graph, seed
        self.active: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._values = {each.name: numpy_helper.to_array(each) for each in self._graph.initializer}
        for node in self._graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._shapes: dict[str, Shape] = {name: value.shape for name, value in self._values.items()}
        self._types: dict[str, int] = {
            name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in self._values.items()
        }
        for info in (*self._graph.value_info, *self._graph.input, *self._graph.output):
            tensor = info.type.tensor_type
            self._types[info.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self._shapes[info.name] = tuple(
                    each.dim_value if each.HasField("dim_value") else None for each in tensor.shape.dim
                )
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._shape_tensors: dict[object, str] = {}

    # -- what is known of the graph ------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape:
        """The shape of a tensor of the network.

        Raises:
            NotDifferentiableHere: when not even its rank is known.
        """
        if name not in self._shapes:
            raise NotDifferentiableHere(f"the shape of {name!r} is not known before it runs")
        return self._shapes[name]

    def sizes(self, name: str, axes: Sequence[int]) -> tuple[int, ...]:
        """Sizes of axes that must be known."""
        shape = self.shape(name)
        sizes = tuple(shape[axis] for axis in axes)
        if None in sizes:
            raise NotDifferentiableHere(f"the shape {shape} of {name!r} is not wholly known before it runs")
        return tuple(size for size in sizes if size is not None)

    def is_float(self, name: str) -> bool:
        """Whether a tensor holds float32, the only numbers that slopes are taken along here."""
        return self._types.get(name) == FLOAT

    def is_active(self, name: str) -> bool:
        """Whether the tensor depends on the rows, along a path that has slopes."""
        return name in self.active

    def no_rule(self, node: onnx.NodeProto, reason: str) -> NotDifferentiableHere:
        """What to raise where an operation is used in a way that has no rule."""
        return NotDifferentiableHere(f"there is no rule for this use of {node.op_type}: {reason}")

    def value(self, name: str) -> NDArray[Any] | None:
        """The value of a constant of the network; None where it is computed."""
        return self._values.get(name)

    def known_value(self, node: onnx.NodeProto, place: int) -> NDArray[Any] | None:
        """A constant operand; None where it is left out.

        Raises:
            NotDifferentiableHere: when it is computed while the network runs.
        """
        if place >= len(node.input) or not node.input[place]:
            return None
        value = self.value(node.input[place])
        if value is None:
            raise NotDifferentiableHere(f"operand {place} of {node.op_type} is only known when it runs")
        return value

    # -- writing -------------------------------------------------------------------------------------------------

    def emit(self, operation: str, *operands: str, **attributes: Any) -> str:
        """Adds a node of one output, and returns its name."""
        return self.emit_all(operation, operands, 1, **attributes)[0]

    def emit_all(self, operation: str, operands: Sequence[str], n_outputs: int, **attributes: Any) -> list[str]:
        outputs = [f"slope:{len(self.nodes)}:{place}" for place in range(n_outputs)]
        self.nodes.append(helper.make_node(operation, list(operands), outputs, **attributes))
        return outputs

    def second_output(self, node: onnx.NodeProto) -> str:
        """The second output of a node of the network, which the network itself has no use for."""
        if len(node.output) == 1:
            node.output.append(f"{node.output[0]}:second")
        return node.output[1]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a constant; equal ones are kept once."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = name = f"slope:constant:{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def whole(self, *numbers: int) -> str:
        """A constant list of whole numbers: a shape, axes."""
        return self.constant(np.array(numbers, np.int64), np.int64)

    # -- shapes of cotangents ------------------------------------------------------------------------------------

    def reshaped(self, cotangent: str, name: str) -> str:
        """A cotangent of as many elements, in the shape of a tensor of the network."""
        shape = self.shape(name)
        if shape.count(None) <= 1:
            # 0 keeps what is there: the targets.
            return self.emit("Reshape", cotangent, self.whole(0, *(-1 if size is None else size for size in shape)))
        return self.emit("Reshape", cotangent, self._dynamic_shape(name))

    def expanded(self, cotangent: str, name: str) -> str:
        """A cotangent, broadcast to the shape of a tensor of the network."""
        return self.emit("Expand", cotangent, self._dynamic_shape(name))

    def summed(self, cotangent: str, name: str, output: str) -> str:
        """The cotangent of an operand that was broadcast to the shape of `output`."""
        shape, whole = self.shape(name), self.shape(output)
        lacking = len(whole) - len(shape)
        stretched = [axis for axis in range(-len(shape), 0) if shape[axis] == 1 and whole[axis] != 1]
        if lacking:
            axes = self.whole(*range(-len(whole), -len(shape)))
            cotangent = self.emit("ReduceSum", cotangent, axes, keepdims=0)
        if stretched:
            cotangent = self.emit("ReduceSum", cotangent, self.whole(*stretched), keepdims=1)
        return cotangent

    def merged(self, cotangent: str, sizes: Sequence[int]) -> str:
        """A cotangent whose axes but the last ones, of known sizes, are one: for operations on one batch axis."""
        return self.emit("Reshape", cotangent, self.whole(-1, *sizes))

    def parted(self, merged: str, sizes: Sequence[int]) -> str:
        """The cotangent again, `(n_targets, n_rows, *sizes)`, from one whose first two axes were merged."""
        key = ("parted", *sizes)
        shape = self._once(key, lambda: self.emit("Concat", self.n_targets(), self.whole(-1, *sizes), axis=0))
        return self.emit("Reshape", merged, shape)

    def by_batch(self, cotangent: str, output: str, name: str, operation: Callable[[str], str]) -> str:
        """The cotangent of `name` from that of `output`, by an operation on `(n, channels, *positions)`.

        Raises:
            NotDifferentiableHere: when another axis than the first has no known size.
        """
        before = self.sizes(output, range(1, len(self.shape(output))))
        after = self.sizes(name, range(1, len(self.shape(name))))
        return self.parted(operation(self.merged(cotangent, before)), after)

    def n_targets(self) -> str:
        """A list of one whole number: how many targets there are."""
        return self._once("targets", lambda: self.emit("Shape", self._seed, start=0, end=1))

    def every_target(self) -> str:
        """The numbers of the targets, from 0."""
        return self._once("every", lambda: self._range(self.n_targets()))

    def _range(self, count: str) -> str:
        end = self.emit("Squeeze", count, self.whole(0))
        return self.emit("Range", self.constant(0, np.int64), end, self.constant(1, np.int64))

    def _dynamic_shape(self, name: str) -> str:
        return self._once(("of", name), lambda: self.emit("Concat", self.n_targets(), self.emit("Shape", name), axis=0))

    def _once(self, key: object, write: Callable[[], str]) -> str:
        if key not in self._shape_tensors:
            self._shape_tensors[key] = write()
        return self._shape_tensors[key]
