"""Slopes of operations that move elements, and compute nothing with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.differentiation.rules import Cotangents, attribute, rule
from models.differentiation.tape import Tape


@rule("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def _reshape(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    return [tape.reshaped(str(cotangents[0]), node.input[0])]


@rule("Transpose")
def _transpose(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    order = attribute(node, "perm", list(reversed(range(len(tape.shape(node.input[0]))))))
    back = [0, *(1 + place for place in np.argsort(order).tolist())]
    return [tape.emit("Transpose", str(cotangents[0]), perm=back)]


@rule("Expand")
def _expand(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    return [tape.summed(str(cotangents[0]), node.input[0], node.output[0])]


@rule("Tile")
def _tile(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Axis by axis, each repetition an axis of its own that is summed."""
    repeats, cotangent = tape.known_value(node, 1), str(cotangents[0])
    assert repeats is not None  # the operation has two operands
    shape = tape.shape(node.input[0])
    for axis, times in enumerate(repeats.tolist()):
        if times == 1:
            continue
        # 0 keeps a size: of the targets, and of the axes before this one.
        sizes = [0] * (1 + axis) + [times, *(-1 if size is None else size for size in shape[axis:])]
        later = [place for place in range(axis + 1, len(shape)) if repeats[place] != 1]
        if later or sizes.count(-1) > 1:
            raise tape.no_rule(node, "it repeats more than one axis")
        cotangent = tape.emit("Reshape", cotangent, tape.whole(*sizes))
        cotangent = tape.emit("ReduceSum", cotangent, tape.whole(1 + axis), keepdims=0)
    return [cotangent]


@rule("Concat")
def _concat(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    rank = len(tape.shape(node.output[0]))
    axis = attribute(node, "axis", 0) % rank
    found: list[str | None] = []
    start = 0
    for name in node.input:
        (size,) = tape.sizes(name, [axis])
        found.append(
            _part(tape, str(cotangents[0]), start, start + size, axis - rank) if tape.is_active(name) else None
        )
        start += size
    return found


@rule("Split")
def _split(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    rank = len(tape.shape(node.input[0]))
    axis = attribute(node, "axis", 0) % rank
    parts = [
        _zeros(tape, name) if cotangent is None else cotangent
        for name, cotangent in zip(node.output, cotangents, strict=True)
    ]
    return [tape.emit("Concat", *parts, axis=axis - rank)]


def _zeros(tape: Tape, name: str) -> str:
    return tape.expanded(tape.constant(0.0), name)


@rule("Slice")
def _slice(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    shape, cotangent = tape.shape(node.input[0]), str(cotangents[0])
    starts, ends, axes, steps = (tape.known_value(node, place) for place in (1, 2, 3, 4))
    assert starts is not None  # the operation has them
    assert ends is not None
    axes_here = range(len(starts)) if axes is None else (axes % len(shape)).tolist()
    steps_here = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(axes_here, starts.tolist(), ends.tolist(), steps_here, strict=True):
        if shape[axis] is None and start == 0 and step == 1 and end >= 2**31 - 1:
            continue  # the whole of an axis
        (size,) = tape.sizes(node.input[0], [axis])
        taken = np.arange(size)[slice(start, end if step > 0 or end >= -size else None, step)]
        cotangent = _scattered(tape, cotangent, taken, size, axis - len(shape))
    return [cotangent]


@rule("Gather")
def _gather(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Of elements at fixed places. What looks rows up (an embedding) has no slope along the numbers it looks up."""
    if not tape.is_active(node.input[0]):
        return [None, None]
    places = tape.known_value(node, 1)
    assert places is not None
    rank = len(tape.shape(node.input[0]))
    axis = attribute(node, "axis", 0) % rank
    (size,) = tape.sizes(node.input[0], [axis])
    cotangent = str(cotangents[0])
    if places.ndim == 0:
        cotangent = tape.emit("Unsqueeze", cotangent, tape.whole(axis - rank))
    elif places.ndim > 1:
        raise tape.no_rule(node, "its places are a table")
    return [_scattered(tape, cotangent, places.reshape(-1) % size, size, axis - rank), None]


@rule("Pad")
def _pad(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    name, cotangent = node.input[0], str(cotangents[0])
    rank, mode = len(tape.shape(name)), attribute(node, "mode", "constant")
    pads, axes = tape.known_value(node, 1), tape.known_value(node, 3)
    assert pads is not None
    axes_here = range(rank) if axes is None else (axes % rank).tolist()
    for axis, before, after in zip(axes_here, *np.split(pads, 2), strict=True):
        if before == after == 0:
            continue
        (size,) = tape.sizes(name, [axis])
        places = np.arange(-before, size + after)
        if mode == "constant":
            places[(places < 0) | (places >= size)] = -1
        else:
            places = np.pad(np.arange(size), (int(before), int(after)), mode=mode)
        cotangent = _scattered(tape, cotangent, places, size, axis - rank)
    return [cotangent]


@rule("CumSum")
def _cumulated(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    axis = tape.known_value(node, 1)
    assert axis is not None
    rank = len(tape.shape(node.input[0]))
    back = tape.whole(int(axis.reshape(-1)[0]) % rank - rank)
    turned = 1 - attribute(node, "reverse", 0)
    found = tape.emit("CumSum", str(cotangents[0]), back, reverse=turned, exclusive=attribute(node, "exclusive", 0))
    return [found, None]


@rule("TopK")
def _top(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    values, places = cotangents[0], node.output[1]
    if values is None:
        return [None, None]
    rank = len(tape.shape(node.input[0]))
    axis = attribute(node, "axis", -1) % rank - rank
    where = tape.emit("Expand", places, tape.emit("Shape", values))
    return [tape.emit("ScatterElements", _zeros(tape, node.input[0]), where, values, axis=axis), None]


def _part(tape: Tape, cotangent: str, start: int, stop: int, axis: int) -> str:
    return tape.emit("Slice", cotangent, tape.whole(start), tape.whole(stop), tape.whole(axis))


def _scattered(tape: Tape, cotangent: str, places: NDArray[Any], size: int, axis: int) -> str:
    """Elements of an axis put where they were taken from, and summed where several were taken from one place.

    Args:
        places: of the elements in the axis of `size`, or -1 for those that came from nowhere.
    """
    first, last = int(places[0]), int(places[-1])
    if len(places) <= size and first >= 0 and np.array_equal(places, np.arange(first, last + 1)):
        if len(places) == size:
            return cotangent
        # Counted from the front: the axis of targets is the first.
        pads = tape.whole(first, size - 1 - last)
        return tape.emit("Pad", cotangent, pads, "", tape.whole(axis))
    real = np.flatnonzero(places >= 0)
    if len(real) == size and np.array_equal(places[real], np.arange(size)) and np.ptp(real) == size - 1:
        return _part(tape, cotangent, int(real[0]), int(real[-1]) + 1, axis)
    # One more element, 0, for what was not taken; then each place takes its elements, first, second, ...
    padded = tape.emit("Pad", cotangent, tape.whole(0, 1), "", tape.whole(axis))
    taken_from = [np.flatnonzero(places == place).tolist() for place in range(size)]
    layers = [
        tape.emit(
            "Gather",
            padded,
            tape.constant([each[turn] if turn < len(each) else len(places) for each in taken_from], np.int64),
            axis=axis,
        )
        for turn in range(max(map(len, taken_from)))
    ]
    return layers[0] if len(layers) == 1 else tape.emit("Sum", *layers)
