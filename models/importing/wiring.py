"""Makes a loaded model fit its signature: its ends checked, its outputs named as those of a version are."""

from __future__ import annotations

from typing import Any, Literal, cast

import keras
import numpy as np

from models.errors import ModelDoesNotFit
from models.rows import ModelInput
from models.signature import Signature
from models.training import predict_raw

Outputs = Literal["probabilities", "logits"]

SUM_TOLERANCE = 1e-3
PROBES, ROUNDING = 8, 0.05
"""Rows that are put through the network alone too, and what part of an output may come of rounding."""
SMALLEST = {1: 1e-7, 2: 1e-30}
"""Probabilities below this count as this where log-odds have to be taken from them: of a sigmoid, whose other end
float32 rounds to 1 from there on, and of several labels."""


def wire(model: Any, signature: Signature, outputs: Outputs, rows: ModelInput) -> tuple[keras.Model, list[str]]:
    """A model on the same layers with the layers `logit` and `output` of a version, and what there is to say of it.

    The last linear layer is found behind a softmax or sigmoid. Where it cannot be, log-odds are taken from the
    probabilities, which saturate: then they are told so.

    Args:
        rows: `(n_rows, *signature.input_shape)`, on which the model's own outputs are checked.

    Raises:
        ModelDoesNotFit: when the model takes or gives something else than its signature says.
    """
    _check_inputs(model, signature)
    _check_outputs(model, signature)
    inputs, result, whole, notes = _on_own_input(model, signature)
    checked = keras.Model(inputs, result)
    units = predict_raw(checked, rows)
    _check_values(units, signature, outputs)
    _check_alone(checked, rows, units)
    if signature.task == "regression":
        return keras.Model(inputs, keras.layers.Activation("linear", name="output")(result)), notes
    activation = "softmax" if signature.n_network_outputs > 1 else "sigmoid"
    linear, doubts = (result, []) if outputs == "logits" else _linear_of(result, None if whole else checked)
    if linear.shape[-1] == 2 and signature.n_network_outputs == 1:
        linear = _weighted(linear, (-1.0, 1.0))
    logit = keras.layers.Activation("linear", name="logit")(linear)
    return keras.Model(inputs, keras.layers.Activation(activation, name="output")(logit)), [*notes, *doubts]


def _check_inputs(model: Any, signature: Signature) -> None:
    named = signature.feature_names
    columns = f" ({', '.join(named[:5])}{', ...' if len(named) > 5 else ''})" if signature.kind == "columns" else ""
    takes = f"one input of shape {_shape(signature.input_shape)}{columns}"
    if not getattr(model, "inputs", None):
        raise ModelDoesNotFit(takes, "a model that was never built", "Give it a keras.Input, and save it again.")
    for entry in model.inputs:
        if not str(entry.dtype).startswith(("float", "bfloat", "int", "uint", "bool")):
            cure = "Put what turns other values into numbers in front of it, outside: a version is given numbers."
            raise ModelDoesNotFit(takes, f"the input {entry.name} of {entry.dtype}", cure)
    if len(model.inputs) != 1:
        _check_several_inputs(model, signature, takes)
        return
    shape = tuple(model.inputs[0].shape[1:])
    fits = len(shape) == len(signature.input_shape) and all(
        size in (None, wanted) for size, wanted in zip(shape, signature.input_shape, strict=True)
    )
    if not fits:
        cure = "Give a signature with the features that it takes, in the units and the order that it takes them in."
        raise ModelDoesNotFit(takes, f"one of shape {_shape(shape)}", cure)


def _check_several_inputs(model: Any, signature: Signature, takes: str) -> None:
    widths = [_width_of(entry) for entry in model.inputs]
    if signature.kind == "columns" and None not in widths and sum(filter(None, widths)) == signature.input_shape[0]:
        return
    names = ", ".join(f"{entry.name} {_shape(entry.shape[1:])}" for entry in model.inputs)
    cure = (
        "Give as many features as its inputs have columns together; or wrap it in a functional model that takes one "
        "array in signature order, and splits it: rows = keras.Input((3,)); "
        "keras.Model(rows, model([rows[:, :1], rows[:, 1:]]))."
    )
    raise ModelDoesNotFit(f"{takes}, or several that share its columns", f"{len(model.inputs)} inputs: {names}", cure)


def _width_of(entry: Any) -> int | None:
    """How many columns an input takes; None for one that takes something else."""
    shape = tuple(entry.shape[1:])
    return 1 if shape == () else shape[0] if len(shape) == 1 else None


def _check_outputs(model: Any, signature: Signature) -> None:
    gives = _outputs_in_words(signature)
    if len(model.outputs) != 1:
        raise ModelDoesNotFit(gives, f"{len(model.outputs)} outputs", "Save a model with the one that is to be served.")
    units = tuple(model.outputs[0].shape[1:])
    if units not in [(count,) for count in _unit_counts(signature)]:
        cure = "Give the labels that it has units for, in their order; pool whatever is more than one vector a row."
        raise ModelDoesNotFit(gives, f"an output of shape {_shape(units)}", cure)


def _unit_counts(signature: Signature) -> tuple[int, ...]:
    return (1, 2) if len(signature.labels) == 2 else (signature.n_network_outputs,)


def _outputs_in_words(signature: Signature) -> str:
    counts = " or ".join(f"({count},)" for count in _unit_counts(signature))
    of = f"for {len(signature.labels)} labels" if signature.labels else "for one target"
    return f"one output of shape {counts} {of}"


def _shape(sizes: Any) -> str:
    return str(tuple(sizes))


def _check_values(units: Any, signature: Signature, outputs: Outputs) -> None:
    values = np.asarray(units, dtype=np.float64)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).any(axis=1).sum())
        cure = "Look for rows that are out of the range that it was made for, and for weights that are NaN."
        raise ModelDoesNotFit("finite outputs", f"NaN or infinity for {count} of {len(values)} rows", cure)
    if signature.task == "regression":
        return
    sums = values.sum(axis=1)
    low, high = float(values.min()), float(values.max())
    inside = low >= -1e-6 and high <= 1 + 1e-6
    are_probabilities = inside and (values.shape[1] == 1 or bool((np.abs(sums - 1) <= SUM_TOLERANCE).all()))
    if outputs == "probabilities" and not inside:
        received = f"outputs from {low:.4g} to {high:.4g}"
        raise ModelDoesNotFit("probabilities from 0 to 1", received, _END_IN.format(_last(values.shape[1])))
    if outputs == "probabilities" and not are_probabilities:
        received = f"rows whose outputs sum to {sums.min():.4g} at least and {sums.max():.4g} at most"
        raise ModelDoesNotFit("probabilities that sum to 1", received, _END_IN.format("softmax"))
    if outputs == "logits" and are_probabilities and values.shape[1] > 1:
        cure = 'Leave out "outputs": "logits".'
        raise ModelDoesNotFit("logits, of any size", "probabilities, which sum to 1 in each row", cure)


def _check_alone(model: keras.Model, rows: ModelInput, units: Any) -> None:
    """Refuses what mixes rows: while serving, a row's neighbours are those of other requests."""
    places = np.linspace(0, len(rows) - 1, min(PROBES, len(rows)), dtype=int)
    together = np.asarray(units, dtype=np.float64)
    alone = np.concatenate([predict_raw(model, rows[place : place + 1]) for place in places]).astype(np.float64)
    scale = np.maximum(np.maximum(together.std(axis=0), np.abs(together[places])), SMALLEST[1])
    differences = np.abs(alone - together[places])
    # Of sums in another order, in 16 bits too, but not of other rows.
    if (differences > ROUNDING * scale).any():
        raise ModelDoesNotFit(
            "outputs of a row that depend on nothing but the row",
            f"outputs up to {differences.max():.4g} apart for a row alone and among {len(rows)}",
            "Leave out what works along the first axis, which is that of rows (axis=0), or draws at random.",
        )


_END_IN = 'End it in a {} layer; or, where these are logits, say "outputs": "logits".'


def _last(count: int) -> str:
    return "softmax" if count > 1 else "sigmoid"


def _on_own_input(model: Any, signature: Signature) -> tuple[Any, Any, bool, list[str]]:
    """Input and output tensors of a version, whether the model is one layer between them, whole, and notes.

    Its layers stay as they are where they can: methods that look at layers, and the export, then see them.
    """
    entry, single = model.inputs[0], len(model.inputs) == 1
    is_taken = any(layer.name in ("logit", "output") for layer in model.layers)
    if single and tuple(entry.shape[1:]) == signature.input_shape and entry.dtype == "float32" and not is_taken:
        return entry, model.outputs[0], False, []
    inputs = keras.Input(signature.input_shape, name=signature.kind)
    taken, notes = (_cast(inputs, entry), []) if single else _shared_out(inputs, model, signature)
    # Called anew, layer by layer: another copy of the graph on the same layers, whose names do not meet ours.
    inner = keras.Model(model.inputs, model.outputs[0], name="imported")
    result = inner(taken)
    return inputs, result, True, notes


def _shared_out(inputs: Any, model: Any, signature: Signature) -> tuple[list[Any], list[str]]:
    """The columns of each of several inputs: that of its name where each has one and they are called as the features
    are, else as many as it takes, in order; and a note that says which."""
    columns = [feature.name for feature in signature.features for _ in range(feature.width)]
    widths = [_width_of(entry) or 0 for entry in model.inputs]
    named = sorted(entry.name for entry in model.inputs) == sorted(columns)
    starts = [columns.index(entry.name) for entry in model.inputs] if named else [0, *np.cumsum(widths)[:-1].tolist()]
    parts, said, ops = [], [], cast(Any, keras.ops)
    for entry, start, width in zip(model.inputs, starts, widths, strict=True):
        part = inputs[:, start : start + width]
        parts.append(_cast(ops.squeeze(part, 1) if len(entry.shape) == 1 else part, entry))
        said.append(f"{entry.name} takes {', '.join(dict.fromkeys(columns[start : start + width]))}")
    how = "by its name" if named else "in the order of the features"
    return parts, [f"Each of its inputs is given columns {how}: {'; '.join(said)}."]


def _cast(tensor: Any, entry: Any) -> Any:
    ops: Any = keras.ops
    return tensor if str(entry.dtype).startswith("float") else ops.cast(tensor, entry.dtype)


def _linear_of(result: Any, flat: Any) -> tuple[Any, list[str]]:
    """What the last softmax or sigmoid was taken of; or log-odds from the probabilities, and a note that says so.

    Args:
        flat: the model whose last layer may be looked at; None for one that is a layer as a whole.
    """
    last = next((each for each in flat.operations if each.output is result), None) if flat is not None else None
    if type(last) is keras.layers.Dense and _name_of(last.activation) in ("softmax", "sigmoid"):
        linear = keras.layers.Dense.from_config({**last.get_config(), "activation": "linear"})
        tensor = linear(last.input)
        linear.set_weights(last.get_weights())
        return tensor, []
    if isinstance(last, keras.layers.Activation) and _name_of(last.activation) in ("softmax", "sigmoid"):
        return last.input, []
    if isinstance(last, keras.layers.Softmax) and last.axis in (-1, 1):
        return last.input, []
    units = result.shape[-1]
    ops: Any = keras.ops
    smallest = SMALLEST[min(units, 2)]
    note = (
        "Log-odds are taken from the probabilities, since no last linear layer was found behind a softmax or sigmoid: "
        f"they say nothing of probabilities below {smallest:g}."
    )
    if units == 1:
        likely = ops.clip(result, smallest, 1 - smallest)
        return ops.log(likely) - ops.log(1 - likely), [note]
    return ops.log(ops.clip(result, smallest, 1.0)), [note]


def _weighted(tensor: Any, weights: tuple[float, ...]) -> Any:
    """One unit: the sum of a tensor's units, each by its weight."""
    layer = keras.layers.Dense(1, use_bias=False, trainable=False, name="difference_of_logits")
    result = layer(tensor)
    layer.set_weights([np.array(weights, np.float32)[:, np.newaxis]])
    return result


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", "")
