"""From what the network's units give to one column per target: probabilities, log-odds, values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models.signature import Signature


def target_columns(
    units: Any, signature: Signature, output: str, *, concatenate: Callable[..., Any] = np.concatenate
) -> Any:
    """Turns unit values into one column per target, in label order.

    Args:
        units: an array or tensor `(n_rows, n_network_outputs)`: probabilities, log-odds or values.
        output: "probability", "logit" or "value".
        concatenate: the concatenation of the array library that `units` belongs to.

    Returns:
        `(n_rows, n_targets)`. A single sigmoid unit speaks for labels[1]; labels[0] gets what is left.
    """
    if signature.task == "regression" or signature.n_network_outputs > 1:
        return units
    return concatenate([1 - units if output == "probability" else -units, units], axis=-1)


def network_columns(outputs: Any, signature: Signature) -> Any:
    """The network's own units, `(n_rows, n_network_outputs)`, of outputs `(n_rows, n_targets)`."""
    return outputs[:, -signature.n_network_outputs :]


def with_logit(model: Any, signature: Signature) -> Any:
    """A Keras model on the same layers with the named outputs `output` and, for a classification, `logit`.

    `logit` holds log-odds, computed from the last linear layer so that they do not saturate where probabilities
    round to 0 or 1.
    """
    import keras

    outputs = {"output": model.output}
    if signature.task == "classification":
        linear = model.get_layer("logit").output
        outputs["logit"] = linear if signature.n_network_outputs == 1 else log_odds(linear)
    return keras.Model(model.input, outputs)


def target_model(model: Any, signature: Signature, output: str) -> Any:
    """A Keras model on the same layers giving `(n_rows, n_targets)` of one output, for gradients."""
    import keras

    units = with_logit(model, signature).output["logit" if output == "logit" else "output"]
    return keras.Model(model.input, target_columns(units, signature, output, concatenate=keras.ops.concatenate))


def log_odds(logits: Any) -> Any:
    """log(p / (1 - p)) of each class of a softmax, from its logits `(n_rows, n_labels)`.

    z_k - logsumexp(z_j, j != k), in operations that ONNX has. At most one class has p > 1/2; only for it would
    subtracting its own term from the sum cancel, so only for it the other terms are added up anew.
    """
    import keras

    ops: Any = keras.ops
    first = ops.max(logits, axis=-1, keepdims=True)
    terms = ops.exp(logits - first)
    total = ops.sum(terms, axis=-1, keepdims=True)
    top = ops.cast(2.0 * terms > total, logits.dtype)
    others = first + ops.log(total - terms * (1.0 - top))
    second = ops.max(logits - 1e30 * top, axis=-1, keepdims=True)
    terms_without_top = ops.exp(ops.minimum(logits - second, 0.0)) * (1.0 - top)
    others_of_top = second + ops.log(ops.sum(terms_without_top, axis=-1, keepdims=True))
    return logits - (1.0 - top) * others - top * others_of_top
