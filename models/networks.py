"""The network of a specification: as it is trained, and as it is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from models.architectures import cnn, cnn_1d, mlp, recurrent, transformer
from models.architectures.layers import Habits
from models.preprocessing import in_target_units
from models.signature import Signature
from models.spec.augmentation import AugmentationSpec, FlipSpec, NoiseSpec, RotateSpec, ShiftSpec, ZoomSpec
from models.spec.network import ArchitectureSpec, RegularizationSpec

HIDDEN_LAYERS: dict[str, Callable[[Any, Any, Habits], Any]] = {
    "mlp": mlp.hidden_layers,
    "cnn": cnn.hidden_layers,
    "cnn-1d": cnn_1d.hidden_layers,
    "recurrent": recurrent.hidden_layers,
    "transformer": transformer.hidden_layers,
}

MASKED = ("recurrent", "transformer")
"""Networks that leave out steps without a word. (A convolution reads them as what they are: 0.)"""


@dataclass(frozen=True)
class Networks:
    """One network in two forms that have the same weights, in the same order.

    `trained` takes raw units and gives probabilities, or standardized values; `served` gives values in the target's
    units, has no augmentation, and computes in float32. Where nothing differs they share their layers.
    """

    trained: keras.Model
    served: keras.Model

    def take_over(self, weights: Sequence[Any]) -> None:
        """Gives both the weights of `trained.get_weights()`."""
        self.trained.set_weights(weights)
        self.served.set_weights(weights)


def build_networks(
    inputs: Any,
    prepared: Any,
    architecture: ArchitectureSpec,
    regularization: RegularizationSpec,
    signature: Signature,
    *,
    scale: tuple[float, float],
    mixed_precision: bool = False,
) -> Networks:
    """Both forms of a network.

    Layer names are part of the artifact's contract: `logit` is the last linear layer of a classification, `output`
    the layer whose values are served.

    Random layers in front of the network, and layers that compute in float16, are in `trained` alone: tf2onnx cannot
    export the first, and nobody wants to be answered by either.

    Args:
        inputs: the Keras input, in raw units.
        prepared: what the preprocessing layers make of it.
        scale: mean and standard deviation of a regression's target, in its units.

    Raises:
        InvalidDataset: when the network is too deep for its input.
    """

    def output_of(hidden: Any) -> Any:
        return network_output(hidden, architecture, regularization, signature)

    def served(output: Any) -> keras.Model:
        return keras.Model(inputs, in_target_units(output, *scale) if signature.task == "regression" else output)

    if not regularization.augmentation and not mixed_precision:
        output = output_of(prepared)
        trained = keras.Model(inputs, output)
        return Networks(trained, served(output) if signature.task == "regression" else trained)
    plain = served(output_of(prepared))
    policy = keras.config.dtype_policy()
    if mixed_precision:
        keras.config.set_dtype_policy("mixed_float16")
    try:
        return Networks(keras.Model(inputs, output_of(augmented(prepared, regularization.augmentation))), plain)
    finally:
        keras.config.set_dtype_policy(policy)


def network_output(
    hidden: Any, architecture: ArchitectureSpec, regularization: RegularizationSpec, signature: Signature
) -> Any:
    """From prepared rows to what a network is trained to give: probabilities, or standardized values."""
    habits = Habits(regularization.dropout, keras.regularizers.L1L2(regularization.l1, regularization.l2))
    if signature.text is not None and architecture.type in MASKED:
        # What fills a text behind its words is all 0.
        hidden = keras.layers.Masking()(hidden)
    hidden = HIDDEN_LAYERS[architecture.type](hidden, architecture, habits)
    # In float32, whatever the layers before it are: losses need it.
    linear = keras.layers.Dense(signature.n_network_outputs, name="logit", dtype="float32")(hidden)
    if signature.task == "regression":
        return linear
    activation = "softmax" if signature.n_network_outputs > 1 else "sigmoid"
    return keras.layers.Activation(activation, name="output", dtype="float32")(linear)


def augmented(hidden: Any, augmentation: Sequence[AugmentationSpec]) -> Any:
    """Rows changed at random while training; as they are otherwise. What they draw from is in the checkpoint."""
    for spec in augmentation:
        hidden = _augmentation_layer(spec)(hidden)
    return hidden


def _augmentation_layer(spec: AugmentationSpec) -> keras.layers.Layer:
    layers: Any = keras.layers
    match spec:
        case FlipSpec(direction=direction):
            return layers.RandomFlip("horizontal_and_vertical" if direction == "both" else direction)
        case ShiftSpec(fraction=fraction):
            return layers.RandomTranslation(fraction, fraction, fill_mode="nearest")
        case RotateSpec(degrees=degrees):
            return layers.RandomRotation(degrees / 360, fill_mode="nearest")
        case ZoomSpec(fraction=fraction):
            return layers.RandomZoom((-fraction, fraction), fill_mode="nearest")
        case NoiseSpec(deviation=deviation):
            return layers.GaussianNoise(deviation)
