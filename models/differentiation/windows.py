"""Slopes of operations on windows: convolutions, pooling, resizing. Axes are `(n, channels, *positions)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.differentiation.rules import Cotangents, attribute, rule
from models.differentiation.tape import IR_VERSION, OPSET, Tape

FEW_CHANNELS = 8


@dataclass(frozen=True)
class Windows:
    """Where windows of `kernel` positions, `dilations` apart, stand: every `strides`, from `-before` to `size + after`.

    All are lists with a number for each axis of positions.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]

    @staticmethod
    def of(tape: Tape, node: onnx.NodeProto, kernel: list[int]) -> Windows:
        """Those of a convolution or pooling, with padding that is worked out where the node only names it.

        Raises:
            NotDifferentiableHere: when sizes are not known.
        """
        n_axes = len(kernel)
        strides = attribute(node, "strides", [1] * n_axes)
        dilations = attribute(node, "dilations", [1] * n_axes)
        pads = attribute(node, "pads", [0] * 2 * n_axes)
        mode = attribute(node, "auto_pad", "NOTSET")
        if mode.startswith("SAME"):
            sizes = tape.sizes(node.input[0], range(2, 2 + n_axes))
            totals = [
                max((-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1 - size, 0)
                for size, stride, extent, dilation in zip(sizes, strides, kernel, dilations, strict=True)
            ]
            halves = [total // 2 for total in totals]
            others = [total - half for total, half in zip(totals, halves, strict=True)]
            pads = [*halves, *others] if mode == "SAME_UPPER" else [*others, *halves]
        return Windows(kernel, strides, dilations, pads[:n_axes], pads[n_axes:])

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": [*self.before, *self.after],
        }

    def left_over(self, sizes: tuple[int, ...], outputs: tuple[int, ...]) -> list[int]:
        """Positions at the end of each axis that no window reaches."""
        return [
            size - ((output - 1) * stride + (extent - 1) * dilation + 1 - first - last)
            for size, output, stride, extent, dilation, first, last in zip(
                sizes, outputs, self.strides, self.kernel, self.dilations, self.before, self.after, strict=True
            )
        ]


# -- convolutions --------------------------------------------------------------------------------------------------


@rule("Conv")
def _convolution(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    kernels, group = _kernels(tape, node), attribute(node, "group", 1)
    windows = Windows.of(tape, node, list(kernels.shape[2:]))
    back = tape.by_batch(
        str(cotangents[0]),
        node.output[0],
        node.input[0],
        lambda cotangent: _convolved_back(tape, node, cotangent, kernels, windows, group),
    )
    return [back, *[None] * (len(node.input) - 1)]


def _convolved_back(
    tape: Tape, node: onnx.NodeProto, cotangent: str, kernels: NDArray[Any], windows: Windows, group: int
) -> str:
    """A convolution with the kernels turned round where windows stand at every position, else a transposed one.

    The first is the faster where it gives many channels. Of few it computes as many as a vector holds: 2.5 ms for one
    channel, where the other takes 0.4 ms (a batch of 256 images of 8 x 8 with 32 channels, AVX-512).
    """
    extents = [(extent - 1) * each for extent, each in zip(windows.kernel, windows.dilations, strict=True)]
    pads = [extent - pad for side in (windows.before, windows.after) for extent, pad in zip(extents, side, strict=True)]
    few = kernels.shape[1] * group < FEW_CHANNELS
    if set(windows.strides) == {1} and min(pads) >= 0 and not few:
        turned = np.flip(kernels, axis=tuple(range(2, kernels.ndim)))
        parts = turned.reshape(group, -1, *turned.shape[1:]).swapaxes(1, 2)
        weights = tape.constant(parts.reshape(-1, *parts.shape[2:]))
        return tape.emit(
            "Conv",
            cotangent,
            weights,
            kernel_shape=windows.kernel,
            dilations=windows.dilations,
            pads=pads,
            group=group,
        )
    positions = range(2, kernels.ndim)
    left_over = windows.left_over(tape.sizes(node.input[0], positions), tape.sizes(node.output[0], positions))
    attributes = windows.attributes | {"output_padding": left_over}
    return tape.emit("ConvTranspose", cotangent, tape.constant(kernels), group=group, **attributes)


@rule("ConvTranspose")
def _transposed_convolution(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    kernels = _kernels(tape, node)
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET" or attribute(node, "output_shape", None):
        raise tape.no_rule(node, "its padding is not given in numbers")
    windows = Windows.of(tape, node, list(kernels.shape[2:]))

    def back(cotangent: str) -> str:
        group = attribute(node, "group", 1)
        # Positions that were added at the end, beyond every window, are passed over by the stride.
        return tape.emit("Conv", cotangent, tape.constant(kernels), group=group, **windows.attributes)

    return [tape.by_batch(str(cotangents[0]), node.output[0], node.input[0], back), *[None] * (len(node.input) - 1)]


def _kernels(tape: Tape, node: onnx.NodeProto) -> NDArray[Any]:
    kernels = tape.known_value(node, 1)
    assert kernels is not None  # the operation has them
    return kernels


# -- pooling -------------------------------------------------------------------------------------------------------


@rule("MaxPool")
def _max_pool(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """To the first of the largest elements of a window, as in TensorFlow: the operation can say which that was."""
    x = node.input[0]
    if attribute(node, "storage_order", 0) or attribute(node, "ceil_mode", 0):
        raise tape.no_rule(node, "its order or its rounding is not the usual one")
    windows = Windows.of(tape, node, attribute(node, "kernel_shape", []))
    overlap = any(
        (extent - 1) * dilation >= stride
        for extent, dilation, stride in zip(windows.kernel, windows.dilations, windows.strides, strict=True)
    )
    places = tape.second_output(node)
    size = tape.emit("Size", x)
    sizes = tape.sizes(x, range(1, len(tape.shape(x))))
    if overlap:
        given = tape.emit("Reshape", str(cotangents[0]), tape.whole(0, -1))
        places = tape.emit("Expand", tape.emit("Reshape", places, tape.whole(1, -1)), tape.emit("Shape", given))
        flat = tape.emit("Concat", tape.n_targets(), tape.emit("Reshape", size, tape.whole(1)), axis=0)
        nothing = tape.emit("Expand", tape.constant(0.0), flat)
        return [tape.parted(tape.emit("ScatterElements", nothing, places, given, axis=1, reduction="add"), sizes)]
    # Places are counted through all rows of a target, and on through the next one.
    outputs = tape.sizes(node.output[0], range(1, len(sizes) + 1))
    first = tape.emit("Mul", tape.every_target(), size)
    first = tape.emit("Reshape", first, tape.whole(-1, *[1] * (1 + len(sizes))))
    places = tape.merged(tape.emit("Add", places, first), outputs)
    given = tape.merged(str(cotangents[0]), outputs)
    whole = tape.emit("Concat", tape.emit("Shape", given, start=0, end=1), tape.whole(*sizes), axis=0)
    attributes = {name: each for name, each in windows.attributes.items() if name != "dilations"}
    return [tape.parted(tape.emit("MaxUnpool", given, places, whole, **attributes), sizes)]


@rule("AveragePool")
def _average_pool(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Each window's share, over the elements that it counted."""
    x, y = node.input[0], node.output[0]
    windows = Windows.of(tape, node, attribute(node, "kernel_shape", []))
    positions = range(2, 2 + len(windows.kernel))
    sizes, outputs = tape.sizes(x, positions), tape.sizes(y, positions)
    left_over = windows.left_over(sizes, outputs)
    if min(left_over) < 0:
        raise tape.no_rule(node, "windows reach beyond the padding")
    counts = np.ones(outputs, np.float32)
    for axis, (size, output) in enumerate(zip(sizes, outputs, strict=True)):
        counted = _counted(windows, axis, size, output, with_padding=bool(attribute(node, "count_include_pad", 0)))
        counts *= counted.reshape([-1 if place == axis else 1 for place in range(len(outputs))])
    share = tape.emit("Mul", str(cotangents[0]), tape.constant(1 / counts))
    # Channel by channel: each as a row of its own.
    alone = tape.merged(share, (1, *outputs))
    ones = tape.constant(np.ones((1, 1, *windows.kernel), np.float32))
    summed = tape.emit("ConvTranspose", alone, ones, **windows.attributes, output_padding=left_over)
    channels = tape.sizes(x, [1])
    return [tape.parted(summed, (*channels, *sizes))]


def _counted(windows: Windows, axis: int, size: int, output: int, *, with_padding: bool) -> NDArray[np.float32]:
    """How many positions of an axis each window counts."""
    extent, dilation = windows.kernel[axis], windows.dilations[axis]
    starts = np.arange(output)[:, np.newaxis] * windows.strides[axis] - windows.before[axis]
    places = starts + np.arange(extent) * dilation
    inside = (places >= 0) & (places < size)
    return (np.ones_like(inside) if with_padding else inside).sum(axis=1).astype(np.float32)


# -- resizing ------------------------------------------------------------------------------------------------------


@rule("Resize", "Upsample")
def _resize(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Each axis is resized by itself and linearly: back by the transposed matrix of that, which a trial run gives."""
    x, y, cotangent = node.input[0], node.output[0], str(cotangents[0])
    shape, whole = tape.shape(x), tape.shape(y)
    # Where factors are given, positions follow from them, and not from the sizes that they were rounded to.
    scales = tape.known_value(node, 2) if node.op_type == "Resize" else tape.known_value(node, 1)
    for axis in range(len(shape)):
        if shape[axis] == whole[axis]:
            continue
        (size,), (output,) = tape.sizes(x, [axis]), tape.sizes(y, [axis])
        scale = float(scales[axis]) if scales is not None and scales.size == len(shape) else None
        matrix = tape.constant(resizing_matrix(node, size, output, scale).T)
        last = len(shape)  # of the cotangent, which has the targets in front
        order = [place for place in range(last + 1) if place != 1 + axis] + [1 + axis]
        moved = tape.emit("MatMul", tape.emit("Transpose", cotangent, perm=order), matrix)
        cotangent = tape.emit("Transpose", moved, perm=np.argsort(order).tolist())
    return [cotangent, *[None] * (len(node.input) - 1)]


def resizing_matrix(node: onnx.NodeProto, size: int, output: int, scale: float | None) -> NDArray[np.float32]:
    """`(size, output)`: what a `Resize` makes of each unit vector along one axis."""
    from models.inference import open_session

    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute if each.name != "axes"}
    by_scale = scale is not None
    given = numpy_helper.from_array(
        np.array([1, 1, 1, scale], np.float32) if by_scale else np.array([1, 1, size, output], np.int64), "given"
    )
    operands = ["units", "", "given"] if by_scale else ["units", "", "", "given"]
    resize = helper.make_node("Resize", operands, ["resized"], **attributes)
    units = helper.make_tensor_value_info("units", onnx.TensorProto.FLOAT, (1, 1, size, size))
    resized = helper.make_tensor_value_info("resized", onnx.TensorProto.FLOAT, (1, 1, size, output))
    graph = helper.make_graph([resize], "resize", [units], [resized], [given])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = open_session(model.SerializeToString(), threads=1)
    return session.run(None, {"units": np.eye(size, dtype=np.float32)[np.newaxis, np.newaxis]})[0][0, 0]
