"""Slopes of operations that work on each element by itself, with TensorFlow's conventions where there are two."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx

from models.differentiation.rules import Cotangents, attribute, rule
from models.differentiation.tape import FLOAT, Tape

# -- one operand ---------------------------------------------------------------------------------------------------

Slope = Callable[[Tape, onnx.NodeProto, str, str, str], str]
"""From operand, output and the output's cotangent: the operand's cotangent."""


def _unary(*operations: str) -> Callable[[Slope], Slope]:
    def register(slope: Slope) -> Slope:
        def through(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
            (cotangent,) = cotangents
            return [slope(tape, node, node.input[0], node.output[0], str(cotangent))]

        rule(*operations)(through)
        return slope

    return register


@_unary("Identity", "Dropout")
def _same(_tape: Tape, _node: onnx.NodeProto, _x: str, _y: str, cotangent: str) -> str:
    return cotangent


@_unary("Cast")
def _cast(_tape: Tape, _node: onnx.NodeProto, _x: str, _y: str, cotangent: str) -> str:
    return cotangent  # from float32 to float32: others end the path


@_unary("Neg")
def _neg(tape: Tape, _node: onnx.NodeProto, _x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Neg", cotangent)


@_unary("Relu")
def _relu(tape: Tape, _node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    """1 above 0, and 0 at 0. Of the output, so that the operand need not be kept.

    As numbers: ONNX Runtime multiplies twice as fast as it chooses.
    """
    above = tape.emit("Greater", y, tape.constant(0.0))
    return tape.emit("Mul", cotangent, tape.emit("Cast", above, to=FLOAT))


@_unary("LeakyRelu")
def _leaky_relu(tape: Tape, node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return _by_sign(tape, x, cotangent, tape.constant(attribute(node, "alpha", 0.01)))


@_unary("ThresholdedRelu")
def _thresholded_relu(tape: Tape, node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    above = tape.emit("Greater", x, tape.constant(attribute(node, "alpha", 1.0)))
    return tape.emit("Where", above, cotangent, tape.constant(0.0))


@_unary("Elu", "Selu", "Celu")
def _elu(tape: Tape, node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    defaults = {"Elu": (1.0, 1.0), "Selu": (1.67326319217681884765625, 1.05070102214813232421875), "Celu": (1.0, 1.0)}
    alpha, gamma = (
        attribute(node, name, default) for name, default in zip(("alpha", "gamma"), defaults[node.op_type], strict=True)
    )
    if node.op_type == "Celu":
        inner = tape.emit("Exp", tape.emit("Div", _lowered(tape, x), tape.constant(alpha)))
        return tape.emit("Mul", cotangent, inner)
    below = tape.emit("Mul", tape.emit("Exp", _lowered(tape, x)), tape.constant(alpha * gamma))
    return _by_sign(tape, x, cotangent, below, tape.constant(gamma))


def _lowered(tape: Tape, x: str) -> str:
    """No more than 0, so that what is not used does not overflow."""
    return tape.emit("Min", x, tape.constant(0.0))


def _by_sign(tape: Tape, x: str, cotangent: str, below: str, above: str | None = None) -> str:
    slope = tape.emit("Where", tape.emit("Greater", x, tape.constant(0.0)), above or tape.constant(1.0), below)
    return tape.emit("Mul", cotangent, slope)


@rule("PRelu")
def _prelu(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    x, slope = node.input
    scaled = _by_sign(tape, x, str(cotangents[0]), slope)
    return [tape.summed(scaled, x, node.output[0]), None]


@_unary("Sigmoid")
def _sigmoid(tape: Tape, _node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Mul", y, tape.emit("Sub", tape.constant(1.0), y)))


@_unary("Tanh")
def _tanh(tape: Tape, _node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Sub", tape.constant(1.0), tape.emit("Mul", y, y)))


@_unary("Softplus")
def _softplus(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Sigmoid", x))


@_unary("Softsign")
def _softsign(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    root = tape.emit("Add", tape.emit("Abs", x), tape.constant(1.0))
    return tape.emit("Div", cotangent, tape.emit("Mul", root, root))


@_unary("HardSigmoid")
def _hard_sigmoid(tape: Tape, node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    inside = _inside(tape, y, 0.0, 1.0)
    slope = tape.emit("Where", inside, tape.constant(attribute(node, "alpha", 0.2)), tape.constant(0.0))
    return tape.emit("Mul", cotangent, slope)


@_unary("HardSwish")
def _hard_swish(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    """x max(0, min(1, x / 6 + 1/2)): in between, the slope is x / 3 + 1/2."""
    middle = tape.emit("Add", tape.emit("Div", x, tape.constant(3.0)), tape.constant(0.5))
    upper = tape.emit("Where", tape.emit("Less", x, tape.constant(3.0)), middle, tape.constant(1.0))
    slope = tape.emit("Where", tape.emit("Greater", x, tape.constant(-3.0)), upper, tape.constant(0.0))
    return tape.emit("Mul", cotangent, slope)


@_unary("Mish")
def _mish(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    """x tanh(softplus(x))."""
    bent = tape.emit("Tanh", tape.emit("Softplus", x))
    rising = tape.emit("Sub", tape.constant(1.0), tape.emit("Mul", bent, bent))
    slope = tape.emit("Add", bent, tape.emit("Mul", x, tape.emit("Mul", tape.emit("Sigmoid", x), rising)))
    return tape.emit("Mul", cotangent, slope)


@_unary("Gelu")
def _gelu(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    """x times the normal distribution function."""
    share = tape.emit("Erf", tape.emit("Mul", x, tape.constant(math.sqrt(0.5))))
    share = tape.emit("Mul", tape.emit("Add", share, tape.constant(1.0)), tape.constant(0.5))
    bell = tape.emit("Exp", tape.emit("Mul", tape.emit("Mul", x, x), tape.constant(-0.5)))
    bell = tape.emit("Mul", tape.emit("Mul", x, bell), tape.constant(1 / math.sqrt(2 * math.pi)))
    return tape.emit("Mul", cotangent, tape.emit("Add", share, bell))


@_unary("Exp")
def _exp(tape: Tape, _node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, y)


@_unary("Log")
def _log(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Div", cotangent, x)


@_unary("Sqrt")
def _sqrt(tape: Tape, _node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    return tape.emit("Div", tape.emit("Mul", cotangent, tape.constant(0.5)), y)


@_unary("Reciprocal")
def _reciprocal(tape: Tape, _node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    return tape.emit("Neg", tape.emit("Mul", cotangent, tape.emit("Mul", y, y)))


@_unary("Abs")
def _abs(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Sign", x))


@_unary("Erf")
def _erf(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    bell = tape.emit("Exp", tape.emit("Neg", tape.emit("Mul", x, x)))
    return tape.emit("Mul", cotangent, tape.emit("Mul", bell, tape.constant(2 / math.sqrt(math.pi))))


@_unary("Sin")
def _sin(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Cos", x))


@_unary("Cos")
def _cos(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Neg", tape.emit("Mul", cotangent, tape.emit("Sin", x)))


@_unary("Tan")
def _tan(tape: Tape, _node: onnx.NodeProto, _x: str, y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Add", tape.emit("Mul", y, y), tape.constant(1.0)))


@_unary("Sinh")
def _sinh(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Cosh", x))


@_unary("Cosh")
def _cosh(tape: Tape, _node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    return tape.emit("Mul", cotangent, tape.emit("Sinh", x))


_SQUARES = {
    # 1 / slope, or its square where there is a root: one + sign * x^2
    "Atan": (1.0, 1.0, False),
    "Atanh": (1.0, -1.0, False),
    "Asin": (1.0, -1.0, True),
    "Acos": (1.0, -1.0, True),
    "Asinh": (1.0, 1.0, True),
    "Acosh": (-1.0, 1.0, True),
}


@_unary(*_SQUARES)
def _inverse(tape: Tape, node: onnx.NodeProto, x: str, _y: str, cotangent: str) -> str:
    one, sign, rooted = _SQUARES[node.op_type]
    square = tape.emit("Mul", tape.emit("Mul", x, x), tape.constant(sign))
    below = tape.emit("Add", square, tape.constant(one))
    found = tape.emit("Div", cotangent, tape.emit("Sqrt", below) if rooted else below)
    return tape.emit("Neg", found) if node.op_type == "Acos" else found


@rule("Clip")
def _clip(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Slope 1 at the bounds, as TensorFlow's clip_by_value; 0 where they are those of its relu6."""
    low, high = (tape.known_value(node, place) for place in (1, 2))
    x, cotangent = node.input[0], str(cotangents[0])
    if low is not None and high is not None and (float(low), float(high)) == (0.0, 6.0):
        return [tape.emit("Where", _inside(tape, x, 0.0, 6.0), cotangent, tape.constant(0.0))]
    for bound, fits in ((low, "GreaterOrEqual"), (high, "LessOrEqual")):
        if bound is not None:
            within = tape.emit(fits, x, tape.constant(bound))
            cotangent = tape.emit("Where", within, cotangent, tape.constant(0.0))
    return [cotangent]


def _inside(tape: Tape, x: str, low: float, high: float) -> str:
    above, below = tape.emit("Greater", x, tape.constant(low)), tape.emit("Less", x, tape.constant(high))
    return tape.emit("And", above, below)


# -- several operands, broadcast to one shape ----------------------------------------------------------------------


def _operands(tape: Tape, node: onnx.NodeProto, each: list[Callable[[], str]]) -> list[str | None]:
    """Cotangents of the operands that matter, summed where they were broadcast."""
    return [
        tape.summed(write(), name, node.output[0]) if tape.is_active(name) else None
        for name, write in zip(node.input, each, strict=True)
    ]


@rule("Add", "Sum")
def _add(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    return _operands(tape, node, [lambda: str(cotangents[0])] * len(node.input))


@rule("Mean")
def _mean(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    share = tape.constant(1 / len(node.input))
    return _operands(tape, node, [lambda: tape.emit("Mul", str(cotangents[0]), share)] * len(node.input))


@rule("Sub")
def _sub(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    cotangent = str(cotangents[0])
    return _operands(tape, node, [lambda: cotangent, lambda: tape.emit("Neg", cotangent)])


@rule("Mul")
def _mul(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    cotangent, (a, b) = str(cotangents[0]), node.input
    return _operands(tape, node, [lambda: tape.emit("Mul", cotangent, b), lambda: tape.emit("Mul", cotangent, a)])


@rule("Div")
def _div(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    cotangent, (_, b) = str(cotangents[0]), node.input

    def below() -> str:
        return tape.emit("Neg", tape.emit("Mul", tape.emit("Div", cotangent, b), node.output[0]))

    return _operands(tape, node, [lambda: tape.emit("Div", cotangent, b), below])


@rule("Pow")
def _pow(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    cotangent, (base, power) = str(cotangents[0]), node.input

    def of_base() -> str:
        exponent = tape.value(power)
        if exponent is not None and np.all(exponent == 2):
            slope = tape.emit("Mul", base, tape.constant(2.0))
        else:
            power_now = power if exponent is None else tape.constant(exponent)
            less = tape.emit("Sub", power_now, tape.constant(1.0))
            slope = tape.emit("Mul", power_now, tape.emit("Pow", base, less))
        return tape.emit("Mul", cotangent, slope)

    def of_power() -> str:
        """Along a power, the logarithm of the base; 0 where that is no number, as TensorFlow has it."""
        positive = tape.emit("Greater", base, tape.constant(0.0))
        logarithm = tape.emit("Log", tape.emit("Where", positive, base, tape.constant(1.0)))
        return tape.emit("Mul", cotangent, tape.emit("Mul", node.output[0], logarithm))

    return _operands(tape, node, [of_base, of_power])


@rule("Max", "Min")
def _extreme(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Of equal operands, the first gets all, as in TensorFlow."""
    cotangent, zero = str(cotangents[0]), tape.constant(0.0)
    taken: list[str] = []

    def share(name: str) -> str:
        is_it = tape.emit("Equal", name, node.output[0])
        for before in taken:
            is_it = tape.emit("And", is_it, tape.emit("Not", before))
        taken.append(is_it)
        return tape.emit("Where", is_it, cotangent, zero)

    shares = [share(name) for name in node.input]
    return _operands(tape, node, [lambda found=found: found for found in shares])


@rule("Where")
def _where(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    cotangent, condition, zero = str(cotangents[0]), node.input[0], tape.constant(0.0)
    return _operands(
        tape,
        node,
        [
            lambda: zero,
            lambda: tape.emit("Where", condition, cotangent, zero),
            lambda: tape.emit("Where", condition, zero, cotangent),
        ],
    )


@rule("Mod")
def _mod(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """Of the dividend alone; a divisor that depends on the rows has no rule."""
    if tape.is_active(node.input[1]):
        raise tape.no_rule(node, "its divisor depends on the input")
    return [tape.summed(str(cotangents[0]), node.input[0], node.output[0]), None]
