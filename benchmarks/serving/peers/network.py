"""The networks that a peer serves: the ONNX files of our versions, with the session options that we serve them with.

`SERVED_NETWORKS` is a JSON object from a model's name to its file.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime


class Network:
    """Maps rows, as nested lists or as an array, to an array of outputs `(n_rows, n_outputs)`."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        described = self._session.get_inputs()[0]
        self._input, self._shape = described.name, (-1, *described.shape[1:])

    def __call__(self, rows: Any) -> np.ndarray:
        array = np.asarray(rows, np.float32).reshape(self._shape)
        return self._session.run(["output"], {self._input: array})[0]


def paths() -> dict[str, str]:
    """The file of each model."""
    return json.loads(os.environ["SERVED_NETWORKS"])


def networks() -> dict[str, Network]:
    """Each model, loaded."""
    return {name: Network(path) for name, path in paths().items()}
