"""Slopes of products of matrices."""

from __future__ import annotations

import numpy as np
import onnx

from models.differentiation.rules import Cotangents, attribute, rule
from models.differentiation.tape import Tape


@rule("MatMul")
def _matmul(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    cotangent, (a, b) = str(cotangents[0]), node.input
    if min(len(tape.shape(a)), len(tape.shape(b))) < 2:
        raise tape.no_rule(node, "an operand is a vector")
    found: list[str | None] = [None, None]
    if tape.is_active(a):
        found[0] = _summed_product(tape, tape.emit("MatMul", cotangent, _turned(tape, b)), a, node.output[0])
    if tape.is_active(b):
        found[1] = _summed_product(tape, tape.emit("MatMul", _turned(tape, a), cotangent), b, node.output[0])
    return found


def _turned(tape: Tape, name: str) -> str:
    """A tensor of the network with its last two axes exchanged: a constant as a constant."""
    value = tape.value(name)
    if value is not None:
        return tape.constant(np.swapaxes(value, -1, -2))
    rank = len(tape.shape(name))
    return tape.emit("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])


def _summed_product(tape: Tape, cotangent: str, name: str, output: str) -> str:
    """Sums over the leading axes along which an operand was the same for many products."""
    shape, whole = tape.shape(name)[:-2], tape.shape(output)[:-2]
    lacking = len(whole) - len(shape)
    if lacking:
        axes = tape.whole(*range(-len(whole) - 2, -len(shape) - 2))
        cotangent = tape.emit("ReduceSum", cotangent, axes, keepdims=0)
    stretched = [axis - 2 for axis in range(-len(shape), 0) if shape[axis] == 1 and whole[axis] != 1]
    return tape.emit("ReduceSum", cotangent, tape.whole(*stretched), keepdims=1) if stretched else cotangent


@rule("Gemm")
def _gemm(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """alpha a b + beta c, for rows `a` and a constant matrix `b`."""
    if any(tape.is_active(name) for name in node.input[1:]) or attribute(node, "transA", 0):
        raise tape.no_rule(node, "more than its rows depends on the input")
    matrix = tape.known_value(node, 1)
    assert matrix is not None
    back = matrix if attribute(node, "transB", 0) else matrix.T
    weights = tape.constant(back * np.float32(attribute(node, "alpha", 1.0)))
    return [tape.emit("MatMul", str(cotangents[0]), weights)]


@rule("Einsum")
def _einsum(tape: Tape, node: onnx.NodeProto, cotangents: Cotangents) -> list[str | None]:
    """The output's letters take the operand's place, and the targets a letter of their own."""
    equation = attribute(node, "equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = terms.split(",")
    repeated = any(len(set(term)) < len(term) for term in (*letters, result))
    if not arrow or "." in equation or repeated:
        raise tape.no_rule(node, f"its equation is {equation!r}")
    target = next(letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation)
    found: list[str | None] = []
    for place, name in enumerate(node.input):
        if not tape.is_active(name):
            found.append(None)
            continue
        others = [each for position, each in enumerate(zip(letters, node.input, strict=True)) if position != place]
        known = set(result).union(*(term for term, _ in others))
        if not set(letters[place]) <= known:
            raise tape.no_rule(node, f"its equation {equation!r} sums an operand by itself")
        left = ",".join([target + result, *(term for term, _ in others)])
        new = f"{left}->{target}{letters[place]}"
        found.append(tape.emit("Einsum", str(cotangents[0]), *(name for _, name in others), equation=new))
    return found
