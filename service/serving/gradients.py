"""Which engine takes a version's gradients, in the compute process."""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.gradients import KerasGradient, compute_device, fitting_slice_rows
from explain.paths import Gradient
from models.artifact import Artifact
from models.gradient_export import open_gradient
from service.serving.courtesy import Courtesy, PoliteGradient
from service.serving.engine import measured_ms
from service.serving.prices import LearnedPrice, MeteredGradient

ONNX, KERAS = "onnxruntime", "tensorflow"


class Gradients:
    """Gradients of each output of a version: by ONNX Runtime where it was exported with them, else by TensorFlow.

    On a GPU TensorFlow takes all of them. What is not the version's own engine is made ready when a replay of an
    explanation asks for it, which was made with it: before there were exported gradients, or on another machine.

    Args:
        models: the Keras models of the outputs.
        cores: to compute with.
    """

    def __init__(self, artifact: Artifact, models: dict[str, Any], courtesy: Courtesy, cores: int) -> None:
        self._artifact, self._models, self._courtesy, self._cores = artifact, models, courtesy, cores
        self._made: dict[tuple[str, str], Gradient] = {}
        self.device = compute_device()
        outputs = artifact.signature.outputs
        self.slice_rows = {KERAS: fitting_slice_rows(models[outputs[0]])}
        if artifact.gradient_path(outputs[0]) is not None:
            exported = {ONNX: artifact.card["gradient"]["slice_rows"]}
            self.slice_rows = self.slice_rows | exported if self.device == "gpu" else exported | self.slice_rows
        self.own = next(iter(self.slice_rows))
        own = {output: self._compiled(output, self.own) for output in outputs}
        self.price = self._measured(own[outputs[0]])
        for output, gradient in own.items():
            self._made[output, self.own] = PoliteGradient(MeteredGradient(gradient, self.price), courtesy)

    def __call__(self, output: str, engine: str | None) -> Gradient:
        """The gradient of an output, by the engine of that name or by the version's own."""
        key = (output, engine or self.own)
        if key not in self._made:
            self._made[key] = PoliteGradient(self._compiled(*key), self._courtesy)
        return self._made[key]

    def _compiled(self, output: str, engine: str) -> Gradient:
        if engine == KERAS:
            return KerasGradient(self._models[output], self.slice_rows[KERAS])
        gradient = open_gradient(self._artifact, output, threads=self._cores)
        assert gradient is not None  # `slice_rows` names the engine where there is one
        return gradient

    def _measured(self, gradient: Gradient) -> LearnedPrice:
        """What calls of one row and of a slice take, once warm."""
        slice_rows = gradient.slice_rows
        rows = np.zeros((slice_rows, *self._artifact.signature.input_shape), np.float32)
        targets = np.zeros(slice_rows, np.int32)
        gradient(rows, targets)
        single, whole = (measured_ms(lambda n=n: gradient(rows[:n], targets[:n])) for n in (1, slice_rows))
        return LearnedPrice(single, whole, slice_rows)
