"""Rules of differentiation, each against finite differences in float64, and what is refused."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy.special import erf

from models.differentiation.reverse import differentiate
from models.differentiation.rules import RULES
from models.errors import NotDifferentiableHere
from models.inference import open_session

N_ROWS, N_TARGETS = 3, 2
COLUMNS, POSITIVE, SERIES, IMAGE, VOLUME = "[N, 6]", "[N, 6] positive", "[N, 4, 3]", "[N, 2, 5, 6]", "[N, 2, 4, 3, 4]"

CONSTANTS = {
    "matrix": (6, 4), "square": (3, 3), "turned": (4, 6), "row": (6,), "bias": (4,), "many": (3, 2, 4, 3), "four": (4,),
    "three": (3,), "kernels": (3, 2, 3, 3), "grouped": (4, 1, 3, 2), "line": (2, 4, 3), "block": (3, 2, 2, 2, 2),
    "up": (2, 3, 3, 3), "channels": (2,), "lifted": (2, 6, 4),
}  # fmt: skip
"""Names of random arrays, by which the rules below are given constants."""

CASES = [
    *((operation, COLUMNS, f"y = {operation}(x)") for operation in (
        "Relu", "LeakyRelu", "ThresholdedRelu <alpha = 0.3>", "Elu <alpha = 0.7>", "Selu", "Celu <alpha = 0.7>",
        "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Mish", "Exp", "Neg", "Abs", "Erf",
        "Sin", "Cos", "Tan", "Sinh", "Cosh", "Atan", "Asinh", "Identity", "Softmax", "LogSoftmax", "Dropout",
    )),
    *((operation, POSITIVE, f"y = {operation}(x)") for operation in ("Log", "Sqrt", "Reciprocal", "Acosh")),
    *((operation, COLUMNS, f"s = Tanh(x) y = {operation}(s)") for operation in ("Asin", "Acos", "Atanh")),
    ("PRelu", COLUMNS, "y = PRelu(x, row)"),
    ("Clip", COLUMNS, "y = Clip(x, minus, plus)"),
    ("Clip at one side", COLUMNS, "y = Clip(x, minus)"),
    ("Clip to 0 and 6", COLUMNS, "y = Clip(x, zero, six)"),
    ("Cast", COLUMNS, "y = Cast <to = 1>(x)"),
    ("Add, broadcast", SERIES, "s = ReduceMean <keepdims = 1>(x, last) y = Add(s, x)"),
    ("Sub", COLUMNS, "s = Sub(row, x) y = Mul(s, x)"),
    ("Mul, broadcast", SERIES, "s = ReduceSum <keepdims = 1>(x, middle) y = Mul(x, s)"),
    ("Div", POSITIVE, "s = Mul(x, x) y = Div(row, s)"),
    ("Div, both", POSITIVE, "s = Exp(x) y = Div(s, x)"),
    ("Sum", COLUMNS, "s = Tanh(x) y = Sum(x, s, row)"),
    ("Mean", COLUMNS, "s = Tanh(x) y = Mean(x, s)"),
    ("Pow", POSITIVE, "y = Pow(x, power)"),
    ("Pow, square", COLUMNS, "y = Pow(x, two)"),
    ("Pow, exponent", COLUMNS, "y = Pow(two, x)"),
    ("Max", COLUMNS, "s = Tanh(x) y = Max(x, s, row)"),
    ("Min", COLUMNS, "y = Min(x, row)"),
    ("Where", COLUMNS, "c = Greater(x, row) s = Sin(x) y = Where(c, x, s)"),
    ("Mod", POSITIVE, "y = Mod <fmod = 1>(x, six)"),
    ("Floor, cut", COLUMNS, "s = Floor(x) y = Sub(x, s)"),
    ("Reshape", SERIES, "y = Reshape(x, flat)"),
    ("Squeeze", "[N, 1, 6]", "s = Squeeze(x, middle) y = Mul(s, s)"),
    ("Unsqueeze", COLUMNS, "s = Unsqueeze(x, middle) y = Mul(s, s)"),
    ("Flatten", SERIES, "s = Flatten(x) y = Mul(s, s)"),
    ("Transpose", SERIES, "s = Transpose <perm = [0, 2, 1]>(x) y = MatMul(s, turned_series)"),
    ("Transpose, rows last", SERIES,
     "s = Transpose <perm = [1, 0, 2]>(x) t = Tanh(s) y = Transpose <perm = [1, 0, 2]>(t)"),
    ("Expand", "[N, 1, 6]", "s = Expand(x, wide) y = Mul(s, lifted_row)"),
    ("Tile", COLUMNS, "s = Tile(x, thrice) y = Mul(s, s)"),
    ("Concat", COLUMNS, "s = Tanh(x) y = Concat <axis = 1>(s, x, x)"),
    ("Split", COLUMNS, "a, b, c = Split <axis = 1, num_outputs = 3>(x) y = Mul(a, c)"),
    ("Slice", COLUMNS, "y = Slice(x, one, four_whole, middle)"),
    ("Slice, steps", COLUMNS, "y = Slice(x, zero_whole, five_whole, middle, two_whole)"),
    ("Slice, turned round", COLUMNS, "y = Slice(x, minus_one, far_below, middle, minus_one)"),
    ("Gather", COLUMNS, "y = Gather <axis = 1>(x, places)"),
    ("Gather, one", COLUMNS, "y = Gather <axis = 1>(x, place)"),
    ("Pad", SERIES, "y = Pad(x, pads)"),
    ("Pad, reflected", SERIES, "y = Pad <mode = \"reflect\">(x, pads)"),
    ("Pad, edge", SERIES, "y = Pad <mode = \"edge\">(x, pads)"),
    ("CumSum", COLUMNS, "y = CumSum <exclusive = 1>(x, axis_one)"),
    ("TopK", COLUMNS, "v, i = TopK(x, two_whole) y = Mul(v, channels)"),
    ("MatMul", COLUMNS, "y = MatMul(x, matrix)"),
    ("MatMul, many", "[N, 2, 4, 3]", "y = MatMul(x, square)"),
    ("MatMul of both", SERIES, "t = Transpose <perm = [0, 2, 1]>(x) y = MatMul(x, t)"),
    ("MatMul, a constant first", SERIES, "y = MatMul(turned_series_back, x)"),
    ("MatMul, broadcast", SERIES, "s = Unsqueeze(x, middle) y = MatMul(s, lifted)"),
    ("Gemm", COLUMNS, "y = Gemm <alpha = 0.5, beta = 2.0>(x, matrix, bias)"),
    ("Gemm, turned", COLUMNS, "y = Gemm <transB = 1>(x, turned)"),
    ("Einsum", SERIES, "y = Einsum <equation = \"nab,bc->nca\">(x, square)"),
    ("Einsum of both", SERIES, "s = Tanh(x) y = Einsum <equation = \"nab,ncb->nac\">(x, s)"),
    *((f"{operation}, {keep}", POSITIVE.replace("6", "4, 3"), f"y = {operation} <keepdims = {keep}>(x, last)")
      for operation in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
                        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
      for keep in (0, 1)),
    ("Softmax, axis", SERIES, "y = Softmax <axis = 1>(x)"),
    ("GlobalAveragePool", IMAGE, "y = GlobalAveragePool(x)"),
    ("GlobalMaxPool", IMAGE, "y = GlobalMaxPool(x)"),
    ("BatchNormalization", IMAGE, "y = BatchNormalization(x, channels, channels, channels, variances)"),
    ("LayerNormalization", SERIES, "y = LayerNormalization(x, three, three)"),
    ("Conv", IMAGE, "y = Conv <pads = [1, 1, 1, 1]>(x, kernels, three)"),
    ("Conv, to many channels", "[N, 8, 4, 4]", "y = Conv <pads = [1, 1, 1, 1]>(x, deep)"),
    ("Conv, no padding", "[N, 8, 4, 4]", "y = Conv(x, deep)"),
    ("Conv, strides", IMAGE, "y = Conv <strides = [2, 3]>(x, kernels)"),
    ("Conv, as large as before", IMAGE, "y = Conv <strides = [2, 2], auto_pad = \"SAME_UPPER\">(x, kernels)"),
    ("Conv, the other way", IMAGE, "y = Conv <strides = [2, 2], auto_pad = \"SAME_LOWER\">(x, kernels)"),
    ("Conv, dilations", IMAGE, "y = Conv <dilations = [2, 2], pads = [2, 2, 2, 2]>(x, kernels)"),
    ("Conv, groups", IMAGE, "y = Conv <group = 2>(x, grouped)"),
    ("Conv, groups of many", "[N, 8, 4, 4]", "y = Conv <group = 4, pads = [1, 1, 1, 1]>(x, groups)"),
    ("Conv, a line", "[N, 4, 7]", "y = Conv <strides = [2]>(x, line)"),
    ("Conv, a block", VOLUME, "y = Conv(x, block)"),
    ("ConvTranspose", IMAGE, "y = ConvTranspose <strides = [2, 2], pads = [1, 0, 0, 1]>(x, up)"),
    ("ConvTranspose, added", IMAGE, "y = ConvTranspose <strides = [2, 2], output_padding = [1, 1]>(x, up)"),
    ("MaxPool", IMAGE, "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]>(x)"),
    ("MaxPool, overlapping", IMAGE, "y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)"),
    ("MaxPool, gaps", IMAGE, "y = MaxPool <kernel_shape = [2, 2], strides = [3, 3]>(x)"),
    ("MaxPool, a line", "[N, 2, 7]", "y = MaxPool <kernel_shape = [2], strides = [2]>(x)"),
    ("MaxPool, a block", VOLUME, "y = MaxPool <kernel_shape = [2, 2, 2], strides = [2, 2, 2]>(x)"),
    ("AveragePool", IMAGE, "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]>(x)"),
    ("AveragePool, padded", IMAGE, "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)"),
    ("AveragePool, padding counted", IMAGE,
     "y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)"),
    ("Resize, nearest", IMAGE, "y = Resize <mode = \"nearest\">(x, , twice)"),
    ("Resize, linear", IMAGE, "y = Resize <mode = \"linear\">(x, , twice)"),
    ("Resize, smaller", IMAGE, "y = Resize <mode = \"linear\">(x, , half)"),
]  # fmt: skip


def constants() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    found: dict[str, Any] = {name: rng.normal(size=shape).astype(np.float32) for name, shape in CONSTANTS.items()}
    found |= {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {"deep": (2, 8, 3, 3), "groups": (8, 2, 3, 3), "turned_series": (4, 2),
                            "turned_series_back": (2, 4), "lifted_row": (1, 4, 6)}.items()
    }  # fmt: skip
    found["lifted"] = found["lifted"].reshape(2, 8, 3)[:, :3]
    for name, number in {"minus": -0.5, "plus": 0.7, "zero": 0.0, "six": 6.0, "two": 2.0, "power": 1.7}.items():
        found[name] = np.float32(number)
    for name, numbers in {
        "last": [-1], "middle": [1], "flat": [-1, 12], "wide": [1, 4, 6], "thrice": [1, 3], "one": [1],
        "two_whole": [2],
        "four_whole": [4], "five_whole": [5], "zero_whole": [0], "minus_one": [-1], "far_below": [-100],
        "places": [5, 0, 0, 2], "pads": [0, 2, 1, 0, 1, 1],
    }.items():  # fmt: skip
        found[name] = np.array(numbers, np.int64)
    found["place"], found["axis_one"] = np.int64(2), np.int64(1)
    found["twice"], found["half"] = np.array([1, 1, 2, 2], np.float32), np.array([1, 1, 0.5, 0.5], np.float32)
    found["variances"] = np.abs(found["channels"]) + 0.5
    return {name: np.asarray(value) for name, value in found.items()}


def network(shape: str, text: str) -> onnx.ModelProto:
    """A model of the input `x` whose `output` is `y` in one row."""
    lines = text.replace(" y = ", "\ny = ").replace(") ", ")\n")
    graph = onnx.parser.parse_graph(
        f"case (float{shape.split(' pos')[0]} x) => (float[N, M] output) {{ {lines}\noutput = Flatten(y) }}"
    )
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants().items() if name in used
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def rows_of(shape: str) -> Any:
    sizes = [int(size) for size in shape.split("]")[0].split(",")[1:]]
    rows = np.random.default_rng(3).normal(size=(N_ROWS, *sizes))
    return np.abs(rows) + 1.1 if "positive" in shape else rows


def slopes_of(model: onnx.ModelProto, rows: Any, cotangents: Any) -> Any:
    session = open_session(differentiate(model.SerializeToString(), "output"), threads=1)
    return session.run(["slopes"], {"x": rows.astype(np.float32), "cotangents": cotangents.astype(np.float32)})[0]


def in_float64(model: onnx.ModelProto) -> ReferenceEvaluator:
    precise = onnx.ModelProto()
    precise.CopyFrom(model)
    for each in precise.graph.initializer:
        value = numpy_helper.to_array(each)
        if value.dtype == np.float32 and each.name not in ("twice", "half"):
            each.CopyFrom(numpy_helper.from_array(value.astype(np.float64), each.name))
    for node in precise.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = onnx.TensorProto.DOUBLE
    return ReferenceEvaluator(precise, new_ops=[Erf])


class Erf(OpRun):
    """The evaluator's own gives float32."""

    def _run(self, x: Any) -> Any:
        return (erf(x),)


@pytest.mark.parametrize(("shape", "text"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_slopes_of_an_operation_are_those_of_finite_differences(shape: str, text: str) -> None:
    model, rows = network(shape, text), rows_of(shape)
    evaluator = in_float64(model)
    n_units = evaluator.run(None, {"x": rows})[0].shape[1]
    cotangents = np.random.default_rng(5).normal(size=(N_TARGETS, N_ROWS, n_units))

    slopes = slopes_of(model, rows, cotangents)

    expected = np.empty_like(slopes, dtype=np.float64)
    for place in np.ndindex(rows.shape[1:]):
        step = np.zeros(rows.shape)
        step[(slice(None), *place)] = 1e-6
        above, below = (evaluator.run(None, {"x": rows + sign * step})[0] for sign in (1, -1))
        expected[(slice(None), slice(None), *place)] = (cotangents * (above - below) / 2e-6).sum(axis=2)
    assert (N_TARGETS, *rows.shape) == slopes.shape
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_every_rule_is_checked() -> None:
    used = {node.op_type for _, shape, text in CASES for node in network(shape, text).graph.node}

    # Gelu came with a later operation set than exports are made in, Upsample went with an earlier one.
    assert {"Gelu", "Upsample"} == set(RULES) - used


@pytest.mark.parametrize(
    ("text", "row", "slopes"),
    [
        pytest.param("y = Relu(x)", [0, 0], [0, 0], id="ReLU at 0"),
        pytest.param("y = Max(x, zero)", [0, 1], [1, 1], id="the first of equal operands"),
        pytest.param("y = Max(zero, x)", [0, 1], [0, 1], id="not the second"),
        pytest.param("y = Clip(x, minus, plus)", [-0.5, np.float32(0.7)], [1, 1], id="bounds"),
        pytest.param("y = Clip(x, zero, six)", [0, 6], [0, 0], id="bounds of relu6"),
        pytest.param("y = ReduceMax(x, last)", [2, 2], [0.5, 0.5], id="equal maxima share"),
        pytest.param("y = Abs(x)", [0, -1], [0, -1], id="absolute value at 0"),
        pytest.param(
            "s = Unsqueeze(x, middle) m = MaxPool <kernel_shape = [2]>(s) y = Mul(m, m)", [3, 3], [6, 0],
            id="the first of a window",
        ),
    ],
)  # fmt: skip
def test_slopes_at_kinks_are_those_of_tensorflow(text: str, row: list[float], slopes: list[float]) -> None:
    rows = np.array([row])
    model = network("[N, 2]", text)
    n_units = ReferenceEvaluator(model).run(None, {"x": rows.astype(np.float32)})[0].shape[1]

    found = slopes_of(model, rows, np.ones((1, 1, n_units)))

    np.testing.assert_array_equal(found[0, 0], np.array(slopes, np.float32))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("s = Det(x) y = Mul(s, s)", "there is no rule for Det"),
        ("y = Floor(x)", "no path with slopes leads from its input to its output"),
        ("i = Cast <to = 7>(x) y = Gather(row, i)", "no path with slopes"),
        ("s = Cast <to = 7>(x) c = Cast <to = 1>(s) y = Mul(c, c)", "no path with slopes"),
    ],
)
def test_what_has_no_slopes_is_refused_with_the_reason(text: str, reason: str) -> None:
    model = network("[N, 3, 3]" if "Det" in text else "[N, 6]", text)

    with pytest.raises(NotDifferentiableHere, match=f"cannot be differentiated: {reason}"):
        differentiate(model.SerializeToString(), "output")


def test_targets_share_a_call_and_have_the_slopes_of_one_each() -> None:
    model, rows = network(IMAGE, "c = Conv(x, kernels) y = MaxPool <kernel_shape = [2, 2]>(c)"), rows_of(IMAGE)
    cotangents = np.random.default_rng(0).normal(size=(4, N_ROWS, 3 * 2 * 3))

    together = slopes_of(model, rows, cotangents)

    alone = np.concatenate([slopes_of(model, rows, each[np.newaxis]) for each in cotangents])
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-6)
