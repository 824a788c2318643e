"""BentoML: a service that opens the ONNX files itself, since `bentoml.onnx` is deprecated, with adaptive batching."""

from __future__ import annotations

import bentoml
import numpy as np
from network import networks


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Served:
    def __init__(self) -> None:
        self._networks = networks()

    @bentoml.api(batchable=True, route="/digits")
    def digits(self, inputs: np.ndarray) -> np.ndarray:
        return self._networks["digits"](inputs)

    @bentoml.api(batchable=True, route="/breast-cancer")
    def breast_cancer(self, inputs: np.ndarray) -> np.ndarray:
        return self._networks["breast-cancer"](inputs)
