"""LitServe: an API for each model, each in the worker process that LitServe gives it. `python litserve_api.py PORT`."""

from __future__ import annotations

import sys
from typing import Any

import litserve
import numpy as np
from network import Network, paths


class OnnxApi(litserve.LitAPI):
    def __init__(self, name: str, path: str) -> None:
        super().__init__(api_path=f"/{name}")
        self._path = path

    def setup(self, device: str) -> None:
        del device
        self._network = Network(self._path)

    def decode_request(self, request) -> Any:  # LitServe reads annotations: with one that it cannot, it wants a query
        return request["inputs"]

    def predict(self, x: Any) -> np.ndarray:
        return self._network(x)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    apis = [OnnxApi(name, path) for name, path in paths().items()]
    server = litserve.LitServer(apis, accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
