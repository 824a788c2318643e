"""KServe's Python server: a custom model for each file, asked by the V2 protocol.

`python kserve_model.py PORT GRPC_PORT`.
"""

from __future__ import annotations

import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid
from network import Network, paths


class OnnxModel(Model):
    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._path = path

    def load(self) -> bool:
        self._network = Network(self._path)
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        del headers, response_headers
        outputs = self._network(payload.inputs[0].as_numpy())
        output = InferOutput("output", list(outputs.shape), "FP32")
        output.set_data_from_numpy(outputs, binary_data=payload.use_binary_outputs)
        return InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=[output],
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    models = [OnnxModel(name, path) for name, path in paths().items()]
    for model in models:
        model.load()
    http_port, grpc_port = map(int, sys.argv[1:])
    server = ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1, enable_latency_logging=False)
    server.start(models)
