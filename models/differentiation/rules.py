"""Which rule differentiates which operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from onnx import helper

from models.differentiation.tape import Tape

Cotangents = Sequence[str | None]
Rule = Callable[[Tape, onnx.NodeProto, Cotangents], list[str | None]]
"""Writes the cotangents of a node's operands, from those of its outputs. None is zero, for outputs and operands."""

RULES: dict[str, Rule] = {}

CONSTANT_ALMOST_EVERYWHERE = frozenset(
    {
        "And", "ArgMax", "ArgMin", "BitShift", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual",
        "IsInf", "IsNaN", "Less", "LessOrEqual", "NonZero", "Not", "OneHot", "Or",
        "Range", "Round", "Shape", "Sign", "Size", "Xor",
    }
)  # fmt: skip
"""Operations that no slope leads through: TensorFlow has none for them either."""


def rule(*operations: str) -> Callable[[Rule], Rule]:
    """Registers a rule for operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, function))
        return function

    return register


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or its default."""
    for each in node.attribute:
        if each.name == name:
            value = helper.get_attribute_value(each)
            return value.decode() if isinstance(value, bytes) else value
    return default
